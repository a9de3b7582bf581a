"""A system of tokens that can be asked for each, and a view behind it."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar

from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from keys.authentication import KeyringAuthentication
from keys.keyrings import DatabaseKeyring, LegacyKey, LegacyKeyring
from keys.permissions import HasAPIKey

TOKEN = "old_4f9c2b7d1e8a6035c7b2f9e4d1a8c603"


class OldTokens(LegacyKeyring):
    """Knows every token that begins with `old_`, as `known` says, and is asked as often as `asked` says."""

    source: ClassVar[Any] = "tokens.Token"
    adopts = True
    known: Any = LegacyKey(name="Billing", scopes=["users:read"])
    asked = 0

    def look_up(self, token: str) -> LegacyKey | None:
        type(self).asked += 1
        if not token.startswith("old_"):
            return None
        known = type(self).known
        known = known() if callable(known) else known
        if not isinstance(known, LegacyKey) or known.ref:
            return known  # type: ignore[no-any-return]
        return replace(known, ref=hashlib.md5(token.encode()).hexdigest()[:12])  # noqa: S324


class WithRecords(OldTokens):
    listed: Iterable[LegacyKey] = ()

    def records(self) -> Iterable[LegacyKey]:
        return self.listed


class Authentication(KeyringAuthentication):
    keyrings = (DatabaseKeyring(), OldTokens())


class Orders(APIView):
    authentication_classes = [Authentication]
    permission_classes = [HasAPIKey]

    def get(self, request: Request) -> Response:
        return Response({"key": getattr(request.auth, "pk", None), "user": request.user.pk})


urlpatterns = [path("orders/", Orders.as_view(), name="orders")]
