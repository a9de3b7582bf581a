"""Slow hashes, as of passwords."""

from django.contrib.auth.hashers import check_password

from keys.keyrings import LegacyKey, LegacyKeyring

from .models import HashedToken


class HashedTokens(LegacyKeyring):
    source = "tokens.HashedToken"
    adopts = True

    def look_up(self, token):
        prefix, _, secret = token.partition(".")
        row = HashedToken.objects.filter(prefix=prefix).first()
        if row is None or not check_password(secret, row.hash):
            return None
        return LegacyKey(ref=row.pk, name=row.name, scopes=["orders:read"])
