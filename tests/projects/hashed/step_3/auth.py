from keys.authentication import APIKeyAuthentication


class PersonalKeyAuthentication(APIKeyAuthentication):
    header = ("X-API-Key", "X-API-Token")
