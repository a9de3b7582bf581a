from keys.authentication import APIKeyAuthentication


class ServiceKeyAuthentication(APIKeyAuthentication):
    keyword = "Token"
