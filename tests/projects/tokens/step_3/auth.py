from keys.authentication import APIKeyAuthentication


class UserKeyAuthentication(APIKeyAuthentication):
    keyword = "Token"
    acts_as_owner = True
