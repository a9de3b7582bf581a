"""Options of KEYS have values of a wrong type: `check` names each, and a request is answered with one sentence."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from tests.worlds.settings import *  # noqa: F403

WITHOUT = {"request", "refusal", "introspection", "admin", "commands"}
EXPECTED_CHECKS = {
    "keys.E003",
    "keys.E004",
    "keys.E005",
    "keys.E006",
    "keys.E007",
    "keys.E008",
    "keys.E017",
    "keys.E019",
}

WRONG: dict[str, Any] = {
    "SCOPES": ["orders:read"],
    "DEFAULT_SCOPES": "orders:read",
    "PREFIX": b"live_",
    "TRUSTED_PROXIES": "1",
    "AUDIT_FAIL_OPEN": "false",
    "ROTATION_GRACE": 7,
    "AUDIT_SINK": 5,
    "AUDIT_BACKLOG_LIMIT": "1000",
}


def around() -> AbstractContextManager[Any]:
    """Make them wrong where the tables are made already."""
    from django.test import override_settings

    return override_settings(KEYS=WRONG)


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    yield "a server does not start", _no_server
    yield "a request", _a_request
    yield "a command", _a_command


def _no_server() -> None:
    import pytest
    from django.core.exceptions import ImproperlyConfigured
    from django.core.wsgi import get_wsgi_application

    with pytest.raises(ImproperlyConfigured) as refused:
        get_wsgi_application()
    assert all(name in str(refused.value) for name in WRONG)


def _a_request() -> None:
    from django.test import Client, override_settings

    token = "0123456789abcdef" * 2 + "01234567"
    others = [each for each in MIDDLEWARE if each != "keys.middleware.APIKeyMiddleware"]  # noqa: F405
    with override_settings(MIDDLEWARE=others, DEBUG=True):
        answer = Client(raise_request_exception=False).get("/orders/", headers={"X-API-Key": token})
    assert answer.status_code == 500
    assert "TRUSTED_PROXIES" in answer.content.decode()
    assert token not in answer.content.decode()


def _a_command() -> None:
    import pytest
    from django.core.management import CommandError, call_command

    with pytest.raises(CommandError, match="TRUSTED_PROXIES"):
        call_command("keys_create", "Shop")
