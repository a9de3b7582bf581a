"""Each command, as somebody types it: it does its work, or says in one sentence why not."""

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from types import ModuleType
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connections, router
from django.test import override_settings

from keys.models import APIKey, AuditEvent


def run(name: str, *arguments: str, given: str = "") -> str:
    """Run a command and return what it wrote to standard output."""
    out, err, stdin, status = io.StringIO(), io.StringIO(), sys.stdin, None
    sys.stdin = io.StringIO(given)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            call_command(name, *arguments, stdout=out, stderr=err)
    except SystemExit as end:
        status = end.code
    finally:
        sys.stdin = stdin
    assert not status, (name, status, err.getvalue())
    return out.getvalue()


def fails(name: str, *arguments: str) -> None:
    """Run a command that cannot work here: it says so in a sentence."""
    with pytest.raises(CommandError, match=r"^[^\n]+[.)]\s*$"):
        run(name, *arguments)


def run_each(world: ModuleType) -> None:
    os.environ["KEYS_SEAL_KEY"] = "0123456789abcdef" * 4
    token = run("keys_create", "Typed", "--scope", "orders:read", "--expires", "90d", "--rate", "5/min").strip()
    assert len(token) == 40, token
    key = APIKey.objects.get(name="Typed")
    run("keys_create", "Until a day", "--expires", "2090-01-31")
    run("keys_create", "Until a moment", "--expires", "2090-01-31T12:00")
    assert "Accepted" in run("keys_explain", given=token)
    assert "Typed" in run("keys_list")
    assert any(row["name"] == "Typed" for row in json.loads(run("keys_list", "--json")))
    run("keys_list", "--json", "--verbosity", "0")
    successor = run("keys_rotate", str(key.pk), "--grace", "2d").strip()
    assert len(successor) == 40, successor
    fails("keys_rotate", str(key.pk))
    assert "Accepted" in run("keys_explain", given=token)
    run("keys_deactivate", str(key.pk), "--no-input")
    fails("keys_deactivate", "nobody")
    run("keys_usage")
    json.loads(run("keys_usage", "--json", "--days", "400"))
    run("keys_generate")
    run("keys_seal")
    run("keys_verify")
    assert json.loads(run("keys_verify", "--json"))["ok"]
    run("keys_prune", "--older-than", "400d")
    run("keys_partition", "--dry-run")
    run("keys_partition")
    json.loads(run("keys_partition", "--json"))
    has_triggers = connections[router.db_for_write(AuditEvent)].vendor in {"postgresql", "sqlite"}
    for action in ("install", "status", "remove"):
        (run if has_triggers else fails)("keys_guard", action)
    fails("keys_ship", "--once")
    if apps.is_installed("rest_framework.authtoken"):
        run("keys_import", "authtoken", "--dry-run")
    if apps.is_installed("django.contrib.auth"):
        with override_settings(KEYS={**settings.KEYS, "OWNERS": [settings.AUTH_USER_MODEL]}):
            name_an_owner()


def name_an_owner() -> None:
    """Make a key for a user, tell whose it is, and end it when the user leaves."""
    # Where there is no auth, it cannot be imported.
    from django.contrib.auth import get_user_model

    users: Any = get_user_model()._default_manager
    user, other = (users.create(**{users.model.USERNAME_FIELD: name}) for name in ("Owner of a key", "Owner of none"))
    owner, owners = f"{users.model._meta.label_lower}:{user.pk}", ["--owner", f"{users.model._meta.label}:{user.pk}"]
    token = run("keys_create", "Owned", *owners, "--note", "ticket 12").strip()
    assert f"belongs to {owner} (Owner of a key)" in run("keys_explain", given=token)
    assert f"{owner} (Owner of a key)" in run("keys_list")

    def listed() -> list[tuple[str, str, str, bool]]:
        rows = json.loads(run("keys_list", "--json", *owners))
        return [(row["name"], row["owner"], row["owner_objection"], row["is_active"]) for row in rows]

    assert listed() == [("Owned", owner, "", True)]
    users.filter(pk=user.pk).update(is_active=False)
    assert listed() == [("Owned", owner, "inactive", True)]
    assert json.loads(run("keys_usage", "--json", *owners)) == []
    fails("keys_deactivate", *owners)
    run("keys_deactivate", *owners, "--yes", "--reason", "left")
    assert listed() == [("Owned", owner, "inactive", False)]
    users.filter(pk=user.pk).delete()
    assert listed() == [("Owned", owner, "gone", False)]
    assert json.loads(run("keys_list", "--json", "--owner", f"{users.model._meta.label}:{other.pk}")) == []
    fails("keys_list", "--owner", f"{users.model._meta.label}:0")
