"""`keys_list`: for people, for programs and for cron."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connection
from django.dispatch import Signal
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from keys.models import APIKey
from keys.signals import key_expiring, key_unused
from tests.support.commands import Terminal, finish, run
from tests.support.keys import make_key, named_before
from tests.support.log import record

pytestmark = pytest.mark.django_db


@contextmanager
def listening(signal: Signal) -> Iterator[list[str]]:
    """Collect the names of the keys that a signal is sent for."""
    heard: list[str] = []

    def hear(key: APIKey, **kwargs: object) -> None:
        heard.append(key.name)

    signal.connect(hear)
    try:
        yield heard
    finally:
        signal.disconnect(hear)


def lines(text: str) -> dict[str, str]:
    """Return the lines of a table by the name of their key, which is a single word."""
    return {line.split()[1]: line for line in text.splitlines()[1:]}


def test_people_get_a_table_with_aligned_columns() -> None:
    short = make_key("TTS", scopes=["users:read"])
    long = make_key("Partner-Tracking", scopes=["tracking:write", "users:read"], is_active=False)
    record(short, at=timezone.now() - timedelta(minutes=3))
    listed = run("keys_list")
    assert (listed.status, listed.err) == (0, "")
    heading, *rows = listed.out.splitlines()
    assert heading.split()[0] == "ID"
    for title, *cells in (
        ("NAME", "Partner-Tracking", "TTS"),
        ("PREFIX", long.prefix, short.prefix),
        ("STATE", "inactive", "active"),
        ("SCOPES", "tracking:write, users:read", "users:read"),
        ("LAST USE", "none", "3 minutes ago"),
        ("EXPIRES", "never", "never"),
    ):
        assert all(row.startswith(cell, heading.index(title)) for row, cell in zip(rows, cells, strict=True))


def test_the_states_of_keys_are_told_apart() -> None:
    now = timezone.now()
    make_key("Active")
    make_key("Expiring", expires_at=now + timedelta(days=3))
    make_key("Expired", expires_at=now - timedelta(days=3))
    make_key("Inactive", is_active=False)
    key = make_key("Rotated")
    key.rotate()
    listed = json.loads(run("keys_list", "--json").out)
    states = {(row["name"], row["state"]) for row in listed}
    assert states == {
        ("Active", "active"), ("Expiring", "expiring"), ("Expired", "expired"), ("Inactive", "inactive"),
        ("Rotated", "retiring"), ("Rotated", "active"),
    }  # fmt: skip


def test_old_keys_and_keys_typed_by_hand_are_marked() -> None:
    now = timezone.now()
    make_key("New")
    make_key("Old", created_at=now - timedelta(days=91))
    make_key("Overdue", created_at=now - timedelta(days=181))
    make_key("Typed", key="correct-horse")
    listed = run("keys_list").out
    assert lines(listed)["New"].endswith("never")
    assert lines(listed)["Old"].endswith("older than 90 days")
    assert lines(listed)["Overdue"].endswith("overdue: older than 180 days")
    assert lines(listed)["Typed"].endswith("typed by hand")
    records = {row["name"]: row for row in json.loads(run("keys_list", "--json").out)}
    assert {name: row["age"] for name, row in records.items()} == {
        "New": "", "Old": "old", "Overdue": "overdue", "Typed": "",
    }  # fmt: skip
    assert [name for name, row in records.items() if row["typed_by_hand"]] == ["Typed"]


def test_programs_get_json() -> None:
    now = timezone.now()
    key = make_key(
        scopes=["users:read"], allowed_ips=["10.0.0.0/8"], rate="5/min", expires_at=now + timedelta(days=30),
        note="for Anna",
    )  # fmt: skip
    used = record(key, at=now - timedelta(minutes=3))
    successor = key.rotate()
    listed = run("keys_list", "--json")
    (row,) = [row for row in json.loads(listed.out) if row["id"] == key.pk]
    key.refresh_from_db()
    assert key.expires_at is not None
    assert row == {
        "id": key.pk,
        "name": "TTS-Backend",
        "prefix": key.prefix,
        "state": "retiring",
        "is_active": True,
        "scopes": ["users:read"],
        "allowed_ips": ["10.0.0.0/8"],
        "rate": "5/min",
        "created_at": iso(key.created_at),
        "expires_at": iso(key.expires_at),
        "note": "for Anna",
        "last_used_at": iso(used.at),
        "known_since": iso(key.created_at),
        "age": "",
        "typed_by_hand": False,
        "replaced_by": successor.pk,
        "origins": [],
    }
    assert "sha256$" not in listed.out


def iso(moment: object) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


def test_without_keys_there_is_an_empty_table_or_array() -> None:
    assert run("keys_list").out == ""
    assert "keys_create" in run("keys_list").err
    assert json.loads(run("keys_list", "--json").out) == []


def test_any_number_of_keys_takes_the_same_queries() -> None:
    counts = []
    for number in range(5):
        record(make_key(f"Key-{number}"), at=timezone.now())
        with CaptureQueriesContext(connection) as queries:
            run("keys_list")
        counts.append(len(queries))
    assert set(counts) == {counts[0]}
    assert counts[0] <= 6


def test_a_long_list_is_read_and_written_by_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("command", "commands.keys_list"):
        monkeypatch.setattr(f"keys.management.{module}.PAGE", 3)
    names = [f"Key-{number}" for number in range(7)] + ["Key-7-with-a-longer-name"]
    for name in names:
        make_key(name)
    heading, *rows = run("keys_list").out.splitlines()
    assert [row.split()[1] for row in rows] == names
    # A page is aligned; a column may grow from one to the next.
    assert all(row.startswith("active", heading.index("STATE")) for row in rows[:6])
    assert rows[6].index("active") == rows[7].index("active") > heading.index("STATE")
    assert [row["name"] for row in json.loads(run("keys_list", "--json").out)] == names


def test_control_characters_in_a_name_do_not_reach_the_terminal() -> None:
    named_before("TTS\x1b[2J\nforged  line")
    listed = run("keys_list").out
    assert "TTS\\x1b[2J\\nforged" in listed
    assert len(listed.splitlines()) == 2


def test_keys_about_to_expire_are_listed_signalled_and_fail_the_command() -> None:
    now = timezone.now()
    make_key("Soon", expires_at=now + timedelta(days=13))
    make_key("Later", expires_at=now + timedelta(days=15))
    with listening(key_expiring) as expiring, listening(key_unused) as unused:
        listed = run("keys_list", "--expiring", "14d")
    assert listed.status == 1
    assert list(lines(listed.out)) == ["Soon"]
    assert (expiring, unused) == (["Soon"], [])


def test_unused_keys_are_listed_signalled_and_fail_the_command() -> None:
    old = timezone.now() - timedelta(days=100)
    make_key("Idle", created_at=old)
    busy = make_key("Busy", created_at=old)
    for at in (old, timezone.now()):
        record(busy, at=at)
    with listening(key_expiring) as expiring, listening(key_unused) as unused:
        listed = run("keys_list", "--unused", "90d", "--json")
    assert listed.status == 1
    assert [row["name"] for row in json.loads(listed.out)] == ["Idle"]
    assert (expiring, unused) == ([], ["Idle"])


def test_both_reminders_can_be_had_at_once() -> None:
    now = timezone.now()
    old, soon = now - timedelta(days=100), now + timedelta(days=3)
    make_key("Both", created_at=old, expires_at=soon)
    make_key("Expiring", expires_at=soon)
    make_key("Idle", created_at=old)
    record(make_key("Neither"), at=old)
    listed = run("keys_list", "--expiring", "14d", "--unused", "90d", "--json")
    assert listed.status == 1
    assert [row["name"] for row in json.loads(listed.out)] == ["Both", "Expiring", "Idle"]


@pytest.mark.parametrize("option", ["--expiring", "--unused"])
def test_where_nothing_is_due_cron_has_nothing_to_mail(option: str) -> None:
    make_key()
    listed = run("keys_list", option, "14d")
    assert (listed.status, listed.out, listed.err) == (0, "", "")
    assert json.loads(run("keys_list", option, "14d", "--json").out) == []


@pytest.mark.parametrize("option", ["--expiring", "--unused"])
def test_a_time_that_is_none_is_a_mistake(option: str) -> None:
    make_key()
    listed = run("keys_list", option, "a fortnight")
    assert (listed.status, listed.out) == (1, "")
    assert "“a fortnight” is not a length of time" in listed.err


def test_a_receiver_that_fails_is_reported() -> None:
    make_key("Soon", expires_at=timezone.now() + timedelta(days=3))

    def fail(**kwargs: object) -> None:
        raise ConnectionError("no mail server")

    key_expiring.connect(fail)
    try:
        listed = run("keys_list", "--expiring", "14d")
    finally:
        key_expiring.disconnect(fail)
    assert listed.status == 1
    assert "ConnectionError: no mail server" in listed.err
    assert list(lines(listed.out)) == ["Soon"]


@pytest.mark.matrix
@pytest.mark.django_db(transaction=True)
def test_colours_are_for_terminals() -> None:
    make_key(created_at=timezone.now() - timedelta(days=200))
    with Terminal() as terminal:
        process = terminal.start("keys_list", streams=["stdout"])
        shown = terminal.read_to_end()
        assert finish(process).status == 0
    piped = run("keys_list").out
    assert "\x1b[" in shown
    assert "\x1b[" not in piped
    assert "overdue" in shown
