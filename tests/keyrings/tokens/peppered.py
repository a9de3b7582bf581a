"""Digests by HMAC with a pepper."""

import hashlib
import hmac

from django.conf import settings

from keys.keyrings import LegacyKey, LegacyKeyring

from .models import Token


class OldTokens(LegacyKeyring):
    source = "tokens.Token"
    adopts = True

    def look_up(self, token):
        digest = hmac.new(settings.TOKEN_PEPPER.encode(), token.encode(), hashlib.sha256).hexdigest()
        row = Token.objects.select_related("user").filter(digest=digest).first()
        return None if row is None else key_of(row)

    def records(self):
        return map(key_of, Token.objects.select_related("user").iterator())


def key_of(row):
    return LegacyKey(
        ref=row.pk,
        name=row.label,
        scopes=["orders:read", "orders:write"] if row.may_write else ["orders:read"],
        owner=row.user,
        is_active=not row.revoked,
        expires_at=row.expires_at,
        created_at=row.created_at,
    )
