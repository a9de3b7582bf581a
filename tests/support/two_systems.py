"""Views that an old system guards beside ours, and what their clients present."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone
from knox.auth import TokenAuthentication as KnoxAuthentication
from knox.models import AuthToken
from rest_framework.authentication import TokenAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from keys.authentication import KeyringAuthentication
from keys.keyrings import DatabaseKeyring
from keys.permissions import HasScope, IsUser
from tests.support.keys import make_key


class Ours(KeyringAuthentication):
    """In the header and after the word of the old systems; it answers for its own keys alone."""

    keyword = "Token"
    keyrings = (DatabaseKeyring(),)
    leaves_unknown = True


class OursToTheEnd(KeyringAuthentication):
    """In the same places, for all that nobody before it has accepted."""

    keyword = "Token"
    keyrings = (DatabaseKeyring(),)


class PatientTokens(TokenAuthentication):
    """An old class that leaves what it does not know to the next one."""

    def authenticate(self, request: Request) -> Any:
        try:
            return super().authenticate(request)
        except AuthenticationFailed:
            return None


class PatientKnox(KnoxAuthentication):  # type: ignore[misc]
    def authenticate(self, request: Request) -> Any:
        try:
            return super().authenticate(request)
        except AuthenticationFailed:
            return None


class Both(APIView):
    """Lets users in by the old system, and services with a scope by ours."""

    permission_classes: list[Any] = [IsUser | HasScope("users:read")]

    def get(self, request: Request) -> Response:
        return Response({"user": str(request.user), "by": type(request.auth).__name__})

    post = get


def guarded_by(*authenticators: Any, **initial: Any) -> Any:
    """Return a view with these authentication classes, in their order."""
    return Both.as_view(authentication_classes=list(authenticators), **initial)


def our_token(state: str) -> str:
    """Return the token of a key of ours that is in this state; of none if it is unknown."""
    if state == "unknown":
        return "0" * 40
    states: dict[str, dict[str, Any]] = {
        "good": {},
        "without scope": {"scopes": []},
        "inactive": {"is_active": False},
        "expired": {"expires_at": timezone.now() - timedelta(hours=1)},
    }
    return str(make_key("Billing", **{"scopes": ["users:read"], **states[state]}).key)


def their_token(make: Callable[[User], str], state: str) -> str:
    """Return a token of the old system's, of a user that is or is not active; one it does not know if it is bad."""
    if state == "bad":
        return "f" * 40
    return make(User.objects.create(username="anna", is_active=state == "good"))


def by_authtoken(user: User) -> str:
    return str(Token.objects.create(user=user).key)


def by_knox(user: User) -> str:
    return str(AuthToken.objects.create(user)[1])
