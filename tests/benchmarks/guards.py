"""One class per way to guard the view: its settings, how to make a real key, and which rows to multiply.

Imported by the settings, so models are imported where they are used.
"""

import os
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from secrets import token_hex
from typing import Any, ClassVar

Headers = dict[str, str]


@dataclass(frozen=True)
class Rows:
    """A table whose first row is copied to fill it: what must differ per copy, as SQL.

    The SQL may use ``n`` (a running number), ``tag`` (8 hexadecimal digits, distinct and in no order), ``hex`` (32
    random hexadecimal digits) and ``uuid``. Columns that are not named are copied, but for a serial primary key.
    """

    model: str
    distinct: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One kind of request: what is sent, in turn, and the status that must come back."""

    name: str
    presentations: list[Headers]
    status: int = 200
    # The network of the client: one for all requests, or a new /24 for each.
    new_networks: bool = False


class Guard:
    """Nothing: the floor under every other guard."""

    name: ClassVar[str] = "nothing (floor)"
    distribution: ClassVar[str] = "djangorestframework"
    apps: ClassVar[list[str]] = []
    middleware: ClassVar[list[str]] = []
    authentication: ClassVar[list[str]] = []
    permissions: ClassVar[list[str]] = []
    settings: ClassVar[dict[str, Any]] = {}
    audit_model: ClassVar[str | None] = None
    rows: ClassVar[list[Rows]] = []

    @classmethod
    def installed_version(cls) -> str | None:
        try:
            return version(cls.distribution)
        except PackageNotFoundError:
            return None

    def issue(self, number: int) -> Headers:
        """Make a real key through the peer's own call, for the user with this primary key; what a client then sends."""
        return {}

    def cases(self, presentations: list[Headers]) -> list[Case]:
        """Return the kinds of request to measure, given what the clients with good keys send."""
        return [Case("good key", presentations)]

    def settle(self) -> None:
        """Finish what the guard put off until after the response, so that its time is counted too."""


_USERS = Rows("auth.User", {"id": "n", "username": "'user-' || n"})


def _user(number: int) -> Any:
    from django.contrib.auth.models import User

    return User.objects.create_user(f"user-{number}", id=number)


class Refusal(Guard):
    """DRF's own answer to a request that its authenticator refuses: the floor under every refusal."""

    name = "a bare 401 of DRF"
    authentication = ["tests.benchmarks.refusal.Refuse"]

    def cases(self, presentations: list[Headers]) -> list[Case]:
        return [Case("good key", presentations, 401)]


class RestFrameworkAPIKey(Guard):
    name = "djangorestframework-api-key"
    distribution = "djangorestframework-api-key"
    apps = ["rest_framework_api_key"]
    permissions = ["rest_framework_api_key.permissions.HasAPIKey"]
    rows = [
        Rows(
            "rest_framework_api_key.APIKey",
            {
                "id": "tag || '.sha512$$' || hex || hex || hex || hex",
                "prefix": "tag",
                "hashed_key": "'sha512$$' || hex || hex || hex || hex",
            },
        )
    ]

    def issue(self, number: int) -> Headers:
        from rest_framework_api_key.models import APIKey

        _, key = APIKey.objects.create_key(name="my-remote-service")
        return {"Authorization": f"Api-Key {key}"}


class Knox(Guard):
    """One token per user: with all tokens on one user, its clean-up would read every one of them on each request."""

    name = "django-rest-knox"
    distribution = "django-rest-knox"
    apps = ["knox"]
    authentication = ["knox.auth.TokenAuthentication"]
    permissions = ["rest_framework.permissions.IsAuthenticated"]
    rows = [
        _USERS,
        Rows(
            "knox.AuthToken", {"digest": "hex || hex || hex || hex", "token_key": "substr(hex, 1, 15)", "user_id": "n"}
        ),
    ]

    def issue(self, number: int) -> Headers:
        from knox.models import AuthToken

        _, token = AuthToken.objects.create(_user(number))
        return {"Authorization": f"Token {token}"}


class AuthToken(Guard):
    name = "DRF authtoken"
    apps = ["rest_framework.authtoken"]
    authentication = ["rest_framework.authentication.TokenAuthentication"]
    permissions = ["rest_framework.permissions.IsAuthenticated"]
    rows = [_USERS, Rows("authtoken.Token", {"key": "hex || tag", "user_id": "n"})]

    def issue(self, number: int) -> Headers:
        from rest_framework.authtoken.models import Token

        return {"Authorization": f"Token {Token.objects.create(user=_user(number)).key}"}


class SimpleAPIKey(Guard):
    name = "drf-simple-apikey"
    distribution = "drf-simple-apikey"
    apps = ["drf_simple_apikey"]
    authentication = ["drf_simple_apikey.backends.APIKeyAuthentication"]
    settings = {"DRF_API_KEY": {"FERNET_SECRET": "YmVuY2htYXJrLWJlbmNobWFyay1iZW5jaG1hcmstMzI="}}
    rows = [_USERS, Rows("drf_simple_apikey.APIKey", {"entity_id": "n"})]

    def issue(self, number: int) -> Headers:
        from drf_simple_apikey.models import APIKey

        _, key = APIKey.objects.create_api_key(name="benchmark", entity=_user(number))
        # It refuses plain HTTP when DEBUG is off; the header says that a proxy in front ended TLS.
        return {"Authorization": f"Api-Key {key}", "X-Forwarded-Proto": "https"}


class Keysmith(Guard):
    name = "django-keysmith"
    distribution = "django-keysmith"
    apps = ["keysmith"]
    authentication = ["keysmith.drf.auth.KeysmithAuthentication"]
    permissions = ["keysmith.drf.permissions.RequireKeysmithToken"]
    audit_model = "keysmith.TokenAuditLog"
    rows = [
        _USERS,
        Rows(
            "keysmith.Token",
            {
                "id": "uuid",
                "key": "'pbkdf2_sha512$100000$' || tag || '$' || hex || hex",
                "prefix": "'tok_' || tag",
                "user_id": "n",
            },
        ),
    ]

    def issue(self, number: int) -> Headers:
        from keysmith.services.tokens import create_token

        _, token = create_token(name="local-dev", user=_user(number))
        return {"X-Keysmith-Token": token}


class TenantAPIKeys(Guard):
    name = "django-tenant-apikeys"
    distribution = "django-tenant-apikeys"
    apps = ["django_tenant_apikeys", "tests.benchmarks.tenants"]
    authentication = ["django_tenant_apikeys.authentication.TenantAPIKeyAuthentication"]
    permissions = ["django_tenant_apikeys.permissions.HasAPIKeyScope"]
    settings = {"TENANT_API_KEY_MODEL": "tenants.OrganizationAPIKey"}
    rows = [
        Rows("tenants.Organization", {"id": "n"}),
        Rows(
            "tenants.OrganizationAPIKey",
            {"prefix": "'tak_live_' || tag", "hashed_key": "hex || hex", "tenant_id": "n"},
        ),
    ]

    def issue(self, number: int) -> Headers:
        from tests.benchmarks.tenants.models import Organization, OrganizationAPIKey

        organization = Organization(id=number, name="Benchmark")
        organization.save()
        _, key = OrganizationAPIKey.generate_key(name="CI deploy key", tenant=organization)
        return {"Authorization": f"Api-Key {key}"}


class ServiceKeys(Guard):
    """This app, with its default settings."""

    name = "django-service-keys"
    distribution = "django-service-keys"
    apps = ["keys"]
    middleware = ["keys.middleware.APIKeyMiddleware"]
    authentication = ["keys.authentication.APIKeyAuthentication"]
    permissions = ["keys.permissions.HasAPIKey"]
    audit_model = "keys.AuditEvent"
    rows = [Rows("keys.APIKey", {"key": "'sha256$' || hex || hex", "prefix": "tag"})]

    def issue(self, number: int) -> Headers:
        from keys.models import APIKey

        return {"X-API-Key": APIKey.objects.create(name="TTS-Backend").key}

    def settle(self) -> None:
        from keys.audit.sinks import backlog

        backlog.flush()

    def cases(self, presentations: list[Headers]) -> list[Case]:
        unknown = [{"X-API-Key": token_hex(20)} for _ in presentations]
        impossible = [{"X-API-Key": "x" * 200}]
        return [
            *super().cases(presentations),
            Case("unknown key", unknown, 401, new_networks=True),
            Case("unknown key, past the flood limit", unknown, 401),
            Case("cannot be a key", impossible, 401, new_networks=True),
            Case("cannot be a key, past the flood limit", impossible, 401),
        ]


FLOOR = Guard()
REFUSAL = Refusal()
# What keys cannot make dearer.
FLOORS = (FLOOR, REFUSAL)
REFERENCE = RestFrameworkAPIKey()
OURS = ServiceKeys()
GUARDS: dict[str, Guard] = {
    guard.name: guard
    for guard in (FLOOR, REFUSAL, REFERENCE, Knox(), AuthToken(), SimpleAPIKey(), Keysmith(), TenantAPIKeys(), OURS)
}


def configured_guard() -> Guard:
    """Return the guard of the service that this process is."""
    return GUARDS[os.environ["BENCHMARK_GUARD"]]
