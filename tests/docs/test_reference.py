"""The tables of the manual say what the code says."""

import ast
import inspect
import json
import re
from datetime import timedelta
from functools import partial
from io import StringIO

import pytest
from django.core.management import call_command, get_commands
from django.dispatch import Signal
from django.test import Client
from django.utils import timezone
from django.utils.module_loading import import_string
from pytest_django import DjangoCaptureOnCommitCallbacks

from keys import conf, signals
from keys.models import AuditEvent
from keys.testing import APIKeyClient
from tests.benchmarks import report
from tests.docs.code import check_ids
from tests.docs.pages import PAGES, table
from tests.support.processes import ROOT

REFERENCE = "docs/reference.md"
UNITS = {"ms": timedelta(milliseconds=1), "hour": timedelta(hours=1), "days": timedelta(days=1)}


def value(cell: str) -> object:
    """Return the default that a cell of the settings stands for."""
    if cell.startswith("`"):
        return ast.literal_eval(cell.strip("`"))
    number, _, unit = cell.rpartition(" ")
    return int(number) * UNITS[unit] if unit in UNITS else int(cell.replace(" ", ""))


def test_the_settings_and_their_defaults_are_those_of_the_code() -> None:
    documented = [(row[0].strip("`"), repr(value(row[1]))) for row in table(REFERENCE, "## Settings")]
    assert documented == [(name, repr(default)) for name, default in conf.DEFAULTS.items()]


def test_the_commands_are_those_of_the_code() -> None:
    commands = {name for name, app in get_commands().items() if app == "keys"}
    assert {row[0].strip("`") for row in table(REFERENCE, "## Commands")} == commands


def test_the_checks_are_those_of_the_code() -> None:
    assert [row[0].strip("`") for row in table(REFERENCE, "## System checks")] == sorted(check_ids())


@pytest.mark.parametrize(("option", "registration"), [("--deploy", "deploy=True"), ("--database", "Tags.database")])
def test_the_checks_run_when_the_table_says(option: str, registration: str) -> None:
    rows = table(REFERENCE, "## System checks")
    assert {row[0].strip("`") for row in rows if f"`check {option}`" in row[1]} == check_ids(
        registered_with=registration
    )


def test_the_names_are_those_of_the_code() -> None:
    rows = table(REFERENCE, "## Names")
    for dotted, said in ((row[0].strip("`"), row[1]) for row in rows):
        found = import_string(dotted)
        parts = {*dir(found), *inspect.signature(found).parameters, *getattr(found, "__dataclass_fields__", ())}
        named = {part.removesuffix("()") for part in re.findall(r"`([a-z_]+(?:\(\))?)`", said)}
        assert named <= parts | {"pk"}, dotted
    assert len(rows) > 20
    fields = {field.name for field in AuditEvent._meta.fields} - {"id"}
    assert fields == set(re.findall(r"`(\w+)`", next(row[1] for row in rows if "AuditEvent" in row[0])))


@pytest.mark.django_db
def test_the_signals_are_those_of_the_code(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    documented = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[2])) for row in table(REFERENCE, "## Signals")}
    sent: dict[str, set[str]] = {name: set() for name, signal in vars(signals).items() if isinstance(signal, Signal)}
    receivers = {name: partial(_note, sent[name]) for name in sent}
    for name, receiver in receivers.items():
        getattr(signals, name).connect(receiver)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            client = APIKeyClient(expires_at=timezone.now() + timedelta(days=1))
        client.get("/guarded/")
        Client().get("/guarded/", headers={"X-API-Key": "0" * 40})
        for option in ("--expiring=14d", "--unused=0d"):
            with pytest.raises(SystemExit):
                call_command("keys_list", option, stdout=StringIO(), stderr=StringIO())
    finally:
        for name, receiver in receivers.items():
            getattr(signals, name).disconnect(receiver)
    assert sent == documented


def _note(names: set[str], signal: Signal, sender: object, **kwargs: object) -> None:
    names |= {*kwargs}


def test_the_figures_are_those_of_the_run_that_is_kept() -> None:
    run = json.loads((ROOT / "tests" / "benchmarks" / "results.json").read_text())
    assert f"\n{report.summary(run)}\n" in PAGES["docs/costs.md"]
