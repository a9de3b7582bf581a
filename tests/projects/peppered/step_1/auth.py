from keys.authentication import APIKeyAuthentication
from keys.keyrings import DatabaseKeyring, LegacyKey, LegacyKeyring
from peppered.models import ServiceToken, digest_of


class ServiceTokens(LegacyKeyring):
    source = "peppered.ServiceToken"
    adopts = True

    def look_up(self, token):
        row = ServiceToken.objects.filter(digest=digest_of(token)).first()
        return None if row is None else self.key_of(row)

    def records(self):
        return map(self.key_of, ServiceToken.objects.order_by("pk"))

    def key_of(self, row):
        return LegacyKey(
            ref=str(row.pk),
            name=row.name,
            scopes=["readings:read"],
            is_active=row.revoked_at is None,
            created_at=row.created_at,
        )


class ServiceKeyAuthentication(APIKeyAuthentication):
    keyword = "Token"
    keyrings = (DatabaseKeyring(), ServiceTokens())
