from secrets import token_hex


def new_token():  # the first migration names it
    return token_hex(32)
