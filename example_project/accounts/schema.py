from typing import Any

from drf_spectacular.contrib.rest_framework_simplejwt import SimpleJWTScheme
from drf_spectacular.openapi import AutoSchema

from example_project.accounts.authentication import ACCESS_TOKEN_COOKIE


class CookieOrBearerJWTScheme(SimpleJWTScheme):  # type: ignore[no-untyped-call]
    """The user's token in the cookie or in the header: either will do."""

    target_class = "example_project.accounts.authentication.CookieOrBearerJWTAuthentication"
    name = ["jwtCookie", "jwtAuth"]  # type: ignore[assignment]

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[Any]]]:
        return [{name: []} for name in self.name]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[dict[str, Any]]:
        in_cookie = {"type": "apiKey", "in": "cookie", "name": ACCESS_TOKEN_COOKIE}
        return [in_cookie, super().get_security_definition(auto_schema)]  # type: ignore[no-untyped-call]
