"""Checks of where the tables are, and of a database that keeps local time."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection, connections
from pytest_django import Settings

from keys.models import APIKey, AuditEvent, AuditLog, AuditSeal, KeyOrigin
from tests.support.commands import found
from tests.support.processes import ROOT

pytestmark = pytest.mark.matrix


class SentElsewhere:
    """Sends some models to another database."""

    moved: set[Any] = set()

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "elsewhere" if model in self.moved else None


@pytest.mark.parametrize(
    ("moved", "is_wrong"),
    [
        (set(), False),
        ({AuditEvent}, True),
        ({AuditSeal}, True),
        ({AuditLog}, True),
        ({KeyOrigin}, True),
        ({APIKey}, True),
        ({AuditEvent, AuditSeal}, True),
        ({APIKey, AuditEvent, AuditLog, AuditSeal, KeyOrigin}, False),
    ],
    ids=["nothing", "log", "seals", "identity", "origins", "keys", "log and seals", "all"],
)
def test_keys_and_log_are_in_one_database(
    moved: set[Any], is_wrong: bool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    configured = connections.configure_settings({**connections.settings, "elsewhere": file})
    monkeypatch.setitem(connections.settings, "elsewhere", configured["elsewhere"])
    monkeypatch.setattr(SentElsewhere, "moved", moved)
    settings.DATABASE_ROUTERS = [SentElsewhere()]
    messages = found("keys.E022")
    assert bool(messages) is is_wrong
    assert all("one database" in message and "elsewhere" in message for message in messages)


def test_every_transaction_names_its_database() -> None:
    """Without `using` it is begun on `default`, where a router may keep other tables."""
    sources = {path: path.read_text() for path in (ROOT / "keys").rglob("*.py")}
    assert sum(source.count("transaction.atomic(") for source in sources.values()) > 10
    nameless = [
        (path.name, call)
        for path, source in sources.items()
        for call in re.findall(r"(?:atomic|on_commit)\((?:[^()]|\([^()]*\))*\)", source)
        if "using" not in call
    ]
    assert nameless == []


@pytest.mark.parametrize(
    ("use_tz", "zone", "is_ambiguous"),
    [
        (True, "Europe/Berlin", False),
        (False, "UTC", False),
        (False, "Asia/Tokyo", False),
        (False, "Europe/Berlin", True),
        (False, "Australia/Sydney", True),
    ],
)
def test_local_time_is_ambiguous_where_clocks_change(
    use_tz: bool, zone: str, is_ambiguous: bool, settings: Settings
) -> None:
    settings.USE_TZ, settings.TIME_ZONE = use_tz, zone
    is_ambiguous = is_ambiguous and connection.vendor != "postgresql"
    assert bool(found("keys.W014", deploy=True)) is is_ambiguous
    assert not found("keys.W014")


def test_psycopg_2_does_not_tell_the_hours_apart(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.USE_TZ, settings.TIME_ZONE = False, "Europe/Berlin"
    monkeypatch.setattr(connection.features, "supports_timezones", True)
    assert not found("keys.W014", deploy=True)
    monkeypatch.setattr(connection, "Database", SimpleNamespace(__name__="psycopg2"))
    (warning,) = found("keys.W014", deploy=True)
    assert "psycopg 2 cannot tell" in str(warning)
