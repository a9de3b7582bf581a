"""Commands that write on SQLite, beside a service that writes its log, with the transactions that Django begins."""

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections
from pytest_django import Settings

from keys.models import APIKey
from tests.oldkeys.models import PlainKey
from tests.support.commands import run

pytestmark = pytest.mark.skipif(connection.vendor != "sqlite", reason="Others have more than one writer.")

IMPORT = ("keys_import", "--model", "oldkeys.PlainKey", "--key", "token", "--digest", "plain", "--deactivate")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "command",
    [IMPORT, ("keys_rotate", "Key"), ("keys_deactivate", "--owner", "auth.user:7", "--yes")],
    ids=lambda command: command[0],
)
def test_a_command_that_has_read_lets_nobody_write_before_it(
    command: tuple[str, ...], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever began to write between its look and its change would be waited for in vain: "database is locked"."""
    settings.KEYS = {"OWNERS": ["auth.User"]}
    connection.ensure_connection()
    monkeypatch.setattr(connections["default"], "transaction_mode", None)
    User.objects.create(pk=7, username="anna")
    APIKey.objects.create(name="Key", key="a key of the old table", owner_ref="auth.user:7")
    PlainKey.objects.create(token="a key of the old table", label="Key", state="1")
    PlainKey.objects.create(token="another key", label="Another", state="1")
    began: list[bool] = []

    def write_beside(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if connection.in_atomic_block and sql.startswith("SELECT"):
            with closing(sqlite3.connect(connection.settings_dict["NAME"], timeout=0, isolation_level=None)) as other:
                try:
                    other.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:
                    began.append(False)
                else:
                    began.append(True)
        return result

    with connection.execute_wrapper(write_beside):
        said = run(*command)
    assert said.status == 0, said
    assert began
    assert not any(began)
