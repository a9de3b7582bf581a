from typing import Any

from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.tokens import Token

ACCESS_TOKEN_COOKIE = "access_token"  # noqa: S105


class CookieOrBearerJWTAuthentication(JWTAuthentication):
    """The user's JSON Web Token from `Authorization: Bearer`, or else from the cookie `access_token`.

    A browser sends a cookie along with requests that other sites make it send. So the cookie opens what changes
    something only with a CSRF token, as a session does: `X-CSRFToken`, with what the log-in set as `csrftoken`.
    """

    def authenticate(self, request: Request) -> tuple[Any, Token] | None:
        """The user and the validated token; None when neither place holds one.

        Raises `AuthenticationFailed` (401) for a token that is not valid, and for that of a deactivated user, and
        `PermissionDenied` (403) for a cookie that comes without its CSRF token. What the `Authorization` header says
        under another scheme, an API key's for instance, is not looked at.
        """
        from_header = super().authenticate(request)
        if from_header is not None:
            return from_header
        raw_token = request.COOKIES.get(ACCESS_TOKEN_COOKIE)
        if not raw_token:
            return None
        token = self.get_validated_token(raw_token.encode())
        user = self.get_user(token)
        if request.method not in SAFE_METHODS:
            SessionAuthentication().enforce_csrf(request)
        return user, token
