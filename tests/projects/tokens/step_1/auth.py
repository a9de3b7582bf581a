from keys.authentication import APIKeyAuthentication


class UserKeyAuthentication(APIKeyAuthentication):
    keyword = "Token"
    acts_as_owner = True  # request.user is the user, as it was
    leaves_unknown = True  # for TokenAuthentication, until step 3
