from keys.authentication import APIKeyAuthentication


class PersonalKeyAuthentication(APIKeyAuthentication):
    header = ("X-API-Key", "X-API-Token")
    leaves_unknown = True  # for HasPersonalKey, until step 3
