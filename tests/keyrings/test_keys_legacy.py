"""`keys_legacy`: what has come of another system's keys, and whether its table can go."""

import json
import resource
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import path
from django.utils import timezone

from keys.authentication import KeyringAuthentication
from keys.keyrings import LegacyKey, LegacyKeyring
from keys.models import APIKey, AuditEvent, KeyOrigin
from tests.keyrings import old_tokens
from tests.keyrings.old_tokens import OldTokens, Orders, WithRecords
from tests.support.callers import get
from tests.support.commands import run

PATH = "tests.keyrings.old_tokens.WithRecords"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> type[WithRecords]:
    monkeypatch.setattr(WithRecords, "listed", ())
    return WithRecords


def came(ref: str, **fields: Any) -> APIKey:
    key = APIKey.objects.create(name=f"of {ref}", **fields)
    KeyOrigin.objects.create(source="tokens.token", ref=ref, api_key=key, at=timezone.now())
    return key


@pytest.mark.django_db
def test_each_record_is_told_with_what_became_of_it(listed: type[WithRecords]) -> None:
    key, ended, gone = came("1"), came("2"), came("3")
    ended.deactivate()
    gone_id = gone.pk
    gone.delete()
    AuditEvent.objects.create(at=LONG_AGO, event="used", key_name="Late", status=200, method="GET")
    WithRecords.listed = [
        LegacyKey(1, "A"), LegacyKey(2, "B"), LegacyKey(3, "C"), LegacyKey(4, "Late", prefix="old_4"),
        LegacyKey(5, "Off", is_active=False), LegacyKey(6, "Over", expires_at=LONG_AGO),
    ]  # fmt: skip
    told = run("keys_legacy", PATH)
    assert told.status == 1
    lines = [line.split() for line in told.out.splitlines()]
    assert lines[0] == ["NAME", "PREFIX", "REF", "STATE", "LAST", "USE"]
    assert lines[1:6] == [
        ["B", "2", "deactivated"], ["C", "3", "deleted"], ["Late", "old_4", "4", "waiting", *lines[3][4:]],
        ["Off", "5", "refused", "there"], ["Over", "6", "refused", "there"],
    ]  # fmt: skip
    assert told.out.splitlines()[-1] == (
        "tokens.token: 3 came, 1 not yet, 2 never, as they are inactive or expired there, 1 deactivated here since,"
        " 1 deleted here since (of 6 records)."
    )
    found = run("keys_legacy", PATH, "--json")
    assert found.status == 1
    rows = json.loads(found.out)
    assert [(row["ref"], row["state"], row["key_id"]) for row in rows] == [
        ("1", "came", key.pk), ("2", "deactivated", ended.pk), ("3", "deleted", gone_id), ("4", "waiting", None),
        ("5", "refused there", None), ("6", "refused there", None),
    ]  # fmt: skip
    assert rows[3]["last_used_at"].startswith("2020-01-01T00:00:00")
    assert {row["last_used_at"] for row in rows if row["ref"] != "4"} == {None}


@pytest.mark.django_db
def test_nothing_is_adopted_and_nothing_left_when_all_have_come(listed: type[WithRecords]) -> None:
    WithRecords.listed = [LegacyKey(1, "A")]
    assert run("keys_legacy", PATH).status == 1
    assert not APIKey.objects.exists()
    came("1")
    told = run("keys_legacy", PATH)
    assert (told.status, told.out.splitlines()[-1]) == (0, "tokens.token: 1 came, 0 not yet (of 1 records).")


@pytest.mark.django_db
@pytest.mark.parametrize("token", ["9f2c7b41d8e05a63c4f1b7d2e8a90c35f6e1d4b2", "old_ab"])
def test_a_reference_that_is_the_key_is_not_shown(
    listed: type[WithRecords], old: type[OldTokens], monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setattr(OldTokens, "look_up", lambda self, given: LegacyKey(given, "A") if given == token else None)
    WithRecords.listed = [LegacyKey(token, token, prefix=token)]
    for option in ([], ["--json"]):
        told = run("keys_legacy", PATH, *option)
        assert told.status == 1
        assert token not in told.out
        assert "sha256$" in told.out
    assert get("/orders/", token).status_code == 200
    assert run("keys_legacy", PATH).status == 0


@pytest.mark.django_db
def test_the_views_keyrings_are_found(old: type[OldTokens], listed: type[WithRecords], settings: Any) -> None:
    told = run("keys_legacy")
    assert (told.status, told.out) == (2, "")
    assert told.err.strip() == (
        "tests.keyrings.old_tokens.OldTokens has no records(): nobody can tell which keys of tokens.token have not come"
        " yet."
    )

    class Listed(KeyringAuthentication):
        keyrings = (WithRecords(),)

    class OrdersOfListed(Orders):
        authentication_classes = [Listed]

    settings.ROOT_URLCONF = (path("orders/", OrdersOfListed.as_view()),)
    WithRecords.listed = [LegacyKey(1, "A")]
    assert run("keys_legacy").status == 1
    settings.ROOT_URLCONF = ()
    assert run("keys_legacy").status == 2


def failing() -> Iterator[LegacyKey]:
    yield LegacyKey(1, "A")
    raise ConnectionError("https://tokens.example/?token=secret")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("records", "why"),
    [([7], "It returned an object of int"), ([LegacyKey(1, "A", scopes="a:b")], "Its scopes are no list of texts"),
     ([LegacyKey(name="A")], "a record has no ref"), (None, "it raised TypeError"), (failing(), "it raised Conn")],
)  # fmt: skip
def test_what_cannot_be_read_is_no_answer(listed: type[WithRecords], records: Any, why: str) -> None:
    WithRecords.listed = records
    told = run("keys_legacy", PATH)
    assert told.status == 2
    assert why in told.err
    assert "secret" not in told.err


@pytest.mark.parametrize("dotted", ["nothing", "nowhere.at.All", "keys.models.APIKey", "keys.keyrings.DatabaseKeyring"])
def test_what_is_no_keyring_is_no_answer(dotted: str) -> None:
    told = run("keys_legacy", dotted)
    assert (told.status, dotted in told.err) == (2, True)


class Many(LegacyKeyring):
    source = "tokens.Many"

    def look_up(self, token: str) -> None:
        return None

    def records(self) -> Iterator[LegacyKey]:
        for number in range(200_000):
            yield LegacyKey(number, f"Service {number}")


@pytest.mark.matrix
@pytest.mark.django_db
def test_two_hundred_thousand_records_are_told_within_bounds() -> None:
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, monotonic()
    with Path("/dev/null").open("w") as nowhere, pytest.raises(SystemExit):
        call_command("keys_legacy", "tests.keyrings.test_keys_legacy.Many", "--json", stdout=nowhere)
    print(monotonic() - start, "seconds")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


@pytest.mark.django_db
def test_a_client_that_comes_is_told_at_once(old: type[OldTokens], listed: type[WithRecords]) -> None:
    WithRecords.listed = [LegacyKey("record-1", "Billing")]
    old.known = WithRecords.listed[0]
    assert Client(headers={"X-API-Key": old_tokens.TOKEN}).get("/orders/").status_code == 200
    assert run("keys_legacy", PATH).status == 0
