"""System checks of a deployment and of the keys in its database, and all of them together on the example."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils import timezone
from pytest_django import Settings
from rest_framework.permissions import AllowAny
from rest_framework.views import APIView

from example_project import settings as example
from keys.authentication import APIKeyAuthentication, EnvironmentKeyAuthentication
from keys.models import APIKey
from keys.permissions import HasAPIKey
from keys.throttling import APIKeyRateThrottle
from tests.support.commands import found, serve
from tests.support.keys import named_before
from tests.views import plain

pytestmark = pytest.mark.matrix

SECURITY = "django.middleware.security.SecurityMiddleware"
TABLE = [DEFAULT_DB_ALIAS]


class Guarded(APIView):
    authentication_classes = [APIKeyAuthentication]
    permission_classes = [HasAPIKey]
    throttle_classes = []


class Open(APIView):
    authentication_classes = []
    permission_classes = [AllowAny]


def test_keys_may_travel_without_tls(settings: Settings) -> None:
    serve(settings, Guarded.as_view())
    settings.SECURE_SSL_REDIRECT = False
    assert len(found("keys.W007", deploy=True)) == 1
    assert not found("keys.W007")
    # There are no others.
    assert ", such as tests.checks.test_deployment.Guarded (/0/)." in found("keys.W007", deploy=True)[0]
    settings.SECURE_SSL_REDIRECT = True
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if name != SECURITY]
    assert len(found("keys.W007", deploy=True)) == 1

    settings.MIDDLEWARE = [SECURITY, *settings.MIDDLEWARE]
    assert not found("keys.W007", deploy=True)
    settings.SECURE_SSL_REDIRECT = False
    serve(settings, Open.as_view())
    assert not found("keys.W007", deploy=True)


class KeptInAFile:
    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "file" if model is APIKey else None


@pytest.mark.parametrize(
    ("options", "is_fine"),
    [({}, False), ({"transaction_mode": None}, False), ({"transaction_mode": "deferred"}, False),
     ({"transaction_mode": "IMMEDIATE"}, True), ({"transaction_mode": "exclusive"}, True)],
)  # fmt: skip
def test_sqlite_waits_for_its_turn(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], is_fine: bool
) -> None:
    file = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "OPTIONS": options}
    configured = connections.configure_settings({**connections.settings, "file": file})
    monkeypatch.setitem(connections.settings, "file", configured["file"])
    settings.DATABASE_ROUTERS = [KeptInAFile()]
    try:
        assert bool(found("keys.W008", deploy=True)) is not is_fine
        assert not found("keys.W008")
    finally:
        del connections["file"]


@pytest.mark.parametrize(
    ("backend", "found_ids"),
    [("redis.RedisCache", set()), ("db.DatabaseCache", set()), ("locmem.LocMemCache", {"keys.W026"}),
     ("filebased.FileBasedCache", {"keys.W026"}), ("dummy.DummyCache", {"keys.E030"})],
)  # fmt: skip
def test_caches_that_do_not_count(settings: Settings, backend: str, found_ids: set[str]) -> None:
    settings.CACHES = {"default": {"BACKEND": f"django.core.cache.backends.{backend}", "LOCATION": "redis://nowhere"}}
    serve(settings, Guarded.as_view(throttle_classes=[APIKeyRateThrottle]))
    assert {name for name in ("keys.W026", "keys.E030") if found(name, deploy=True)} == found_ids
    assert not found("keys.W026") + found("keys.E030")
    serve(settings, Guarded.as_view())
    assert not found("keys.W026", deploy=True) + found("keys.E030", deploy=True)


@pytest.mark.django_db
def test_a_key_with_every_scope() -> None:
    key = named_before("Too\nmuch")
    APIKey.objects.filter(pk=key.pk).update(scopes=["users:read", "*"])
    APIKey.objects.create(name="Wild", scopes=["users:*"])
    APIKey.objects.create(name="Expired", scopes=["*"], expires_at=timezone.now() - timedelta(days=1))
    (message,) = found("keys.W009", databases=TABLE)
    assert rf"Too\nmuch ({key.prefix})" in message
    assert "Wild" not in message
    assert "Expired" not in message
    # The table is read only when somebody asks for it.
    assert not found("keys.W009")

    key.deactivate()
    assert not found("keys.W009", databases=TABLE)


@pytest.mark.django_db
def test_many_keys_with_every_scope_are_counted() -> None:
    for number in range(8):
        APIKey.objects.create(name=f"Service {number}", scopes=["*"])
    (message,) = found("keys.W009", databases=TABLE)
    assert "Service 4" in message
    assert "Service 5" not in message
    assert "and 3 more" in message


@pytest.mark.django_db
def test_a_rate_that_a_view_does_not_enforce(settings: Settings) -> None:
    class FromTheEnvironment(EnvironmentKeyAuthentication):
        variables = ("INTERNAL_API_KEY",)

    class DecidesByItself(Guarded):
        def get_throttles(self) -> Any:
            return [APIKeyRateThrottle()]

    class DecidesByProperty(Guarded):
        @property
        def throttle_classes(self) -> Any:  # type: ignore[override]
            return [APIKeyRateThrottle]

    enforcing = Guarded.as_view(throttle_classes=[APIKeyRateThrottle])
    serve(settings, enforcing, Guarded.as_view(), plain)
    assert not found("keys.W010", databases=TABLE)

    key = APIKey.objects.create(name="Busy", rate="100/min")
    (message,) = found("keys.W010", databases=TABLE)
    assert "Busy" in message
    assert "(/1/)" in message
    assert "(/2/)" in message
    assert "(/0/)" not in message
    assert not found("keys.W010")

    environment = Guarded.as_view(authentication_classes=[FromTheEnvironment])
    serve(settings, enforcing, Open.as_view(), environment, DecidesByItself.as_view(), DecidesByProperty.as_view())
    assert not found("keys.W010", databases=TABLE)
    serve(settings, Guarded.as_view())
    key.rate = ""
    key.save()
    assert not found("keys.W010", databases=TABLE)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("target", ["zero", "0001"])
def test_a_table_that_is_not_migrated_yet_is_left_alone(target: str) -> None:
    APIKey.objects.create(name="Busy", rate="100/min", scopes=["*"])
    try:
        call_command("migrate", "keys", target, verbosity=0, skip_checks=True)
        assert not found("keys.W009", databases=TABLE)
        assert not found("keys.W010", databases=TABLE)
    finally:
        call_command("migrate", "keys", verbosity=0, skip_checks=True)


# Since Django 6.1 a plain `check` asks the database whether it has JSON.
@pytest.mark.django_db
def test_the_example_has_nothing_to_complain_of(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEYS", "ROOT_URLCONF", "TEMPLATES", "LOGIN_URL"):
        setattr(settings, name, getattr(example, name))
    variables = ("INTERNAL_API_KEY", "TRACKING_INGEST_API_KEY", "WEBHOOK_API_KEY")
    for number, variable in enumerate(variables):
        monkeypatch.setenv(variable, f"{number}123456789abcdef0123456789abcdef")
    output = StringIO()
    call_command("check", stdout=output, stderr=output)
    assert "no issues (0 silenced)" in output.getvalue()

    for variable in variables:
        monkeypatch.setenv(variable, "")
    messages = run_checks()
    assert [message.id for message in messages] == ["keys.W005"] * 3
    assert all(variable in "".join(map(str, messages)) for variable in variables)
