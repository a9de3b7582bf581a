"""`keys_import`, once more: what came before stays, what is new comes, and what is no longer good there is said."""

import json
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone
from knox.models import AuthToken
from rest_framework.authtoken.models import Token
from rest_framework_api_key.models import APIKey as OtherAPIKey

from keys.models import APIKey, AuditEvent, KeyOrigin
from keys.models.fields import Digest, digests
from tests.oldkeys.models import PlainKey, TokenKey
from tests.support.admin import page_of, text_of
from tests.support.commands import Run, run
from tests.support.other_packages import api_key, knox

PLAIN = ("--model", "oldkeys.PlainKey", "--key", "token", "--digest", "plain", "--active", "state", "--name", "label")
SECRETS = [f"sk_live_{number}1Hx9Qm2Zt7Lw4Rb8Vn3Kd6Pf0" for number in range(3)]


HASH = "pbkdf2_sha256$1$salt$" + "aGFzaGhhc2g" * 3


def imported(*options: str) -> Run:
    return run("keys_import", *PLAIN, *options)


def counted(said: Run) -> list[str]:
    return [line.partition(",")[0] for line in said.out.splitlines() if line[0].isdigit()]


@pytest.fixture
def rows(db: None) -> list[PlainKey]:
    rows = [PlainKey.objects.create(token=secret, label=f"Key {secret[8]}", state="1") for secret in SECRETS]
    assert imported().status == 0
    return rows


def test_what_is_new_comes(rows: list[PlainKey]) -> None:
    PlainKey.objects.create(token="a new key", state="1")
    said = imported()
    assert (said.status, counted(said)) == (0, ["1 imported", "3 were here already"])
    assert AuditEvent.objects.count() == 4


def test_what_was_rotated_or_deactivated_here_stays_so(rows: list[PlainKey]) -> None:
    first, second, _ = APIKey.objects.order_by("pk")
    first.rotate()
    second.deactivate()
    said = imported()
    assert (said.status, counted(said)) == (0, ["0 imported", "3 were here already"])
    second.refresh_from_db()
    assert (second.is_active, APIKey.objects.count()) == (False, 4)


def test_what_was_deleted_here_does_not_come_again(rows: list[PlainKey]) -> None:
    APIKey.objects.get(key=SECRETS[0]).delete()
    said = imported()
    assert (said.status, counted(said)) == (
        0,
        ["0 imported", "2 were here already", "1 came before and was deleted here"],
    )


def test_what_was_here_without_an_origin_gets_one(rows: list[PlainKey]) -> None:
    KeyOrigin.objects.all().delete()
    APIKey.objects.filter(key=SECRETS[0]).update(key="another one")
    imported("--dry-run")
    assert not KeyOrigin.objects.exists()
    said = imported()
    assert counted(said) == ["1 imported", "2 were here already"]
    assert KeyOrigin.objects.count() == 3


@pytest.mark.django_db
def test_what_is_here_by_the_other_digest_does_not_come_twice() -> None:
    APIKey.objects.create(name="By SHA-512", key=Digest(digests(SECRETS[0])[1]))
    PlainKey.objects.create(token=SECRETS[0], state="1")
    assert counted(imported()) == ["0 imported", "1 was here already"]


CHANGES = [
    ({"state": "0"}, "is inactive there"),
    ({"token": "another key"}, "has another key there"),
    ({"number": 1000}, "has expired there"),
    ({"token": ""}, "cannot come any more: token is empty"),
    ({"is_deleted": True}, "is not there any more"),
]


@pytest.mark.parametrize(("change", "what"), CHANGES)
def test_a_record_that_is_no_longer_good_there_is_said(rows: list[PlainKey], change: dict[str, Any], what: str) -> None:
    PlainKey.objects.filter(pk=rows[0].pk).update(**change)
    options = ["--expires", "number"] if "number" in change else []
    key = APIKey.objects.get(key=SECRETS[0])
    said = imported(*options)
    assert said.status == 1
    assert "1 changed there since, and was accepted here" in said.out
    line = next(line for line in said.out.splitlines() if what in line)
    assert line.casefold().startswith(f"oldkeys.plainkey {rows[0].pk} ")
    assert f"key {key.pk}, " in line

    ended = imported("--deactivate", "--dry-run", *options)
    assert (ended.status, APIKey.objects.filter(is_active=False).count()) == (0, 0)
    ended = imported("--deactivate", *options)
    assert (ended.status, "1 of them deactivated" in ended.out) == (0, True)
    key.refresh_from_db()
    assert (key.is_active, APIKey.objects.filter(is_active=True).count()) == (False, 2)
    assert AuditEvent.objects.get(event="deactivated").detail == f"its record in oldkeys.plainkey {what}"
    assert imported(*options).status == 0


@pytest.mark.django_db
def test_a_token_that_was_deleted_there_is_said_without_it() -> None:
    for name in ("anna", "ben"):
        Token.objects.create(user=User.objects.create(username=name))
    run("keys_import", "authtoken")
    gone = Token.objects.get(user__username="anna").key
    Token.objects.filter(key=gone).delete()
    said = run("keys_import", "authtoken")
    assert said.status == 1
    assert "authtoken.token is not there any more: key" in said.out
    assert gone[:8] in said.out  # the prefix
    assert gone[:12] not in said.out


def test_a_table_that_has_been_emptied_ends_no_keys(rows: list[PlainKey]) -> None:
    PlainKey.objects.all().delete()
    assert imported().status == 1
    said = imported("--deactivate")
    assert (said.status, said.out) == (1, "")
    assert "No record of that table has a key that is here" in said.err
    assert APIKey.objects.filter(is_active=True).count() == 3


@pytest.mark.django_db
def test_two_systems_with_the_same_references_are_told_apart_by_name() -> None:
    PlainKey.objects.create(token=SECRETS[0], state="1")
    imported("--system", "Old Billing")
    PlainKey.objects.update(token=SECRETS[1])
    assert counted(imported("--system", "new billing")) == ["1 imported", "0 were here already"]
    assert {origin.source for origin in KeyOrigin.objects.all()} == {"old billing", "new billing"}


@pytest.mark.django_db
def test_a_record_that_somebody_adopts_at_this_moment_is_here_already() -> None:
    row, *_ = [PlainKey.objects.create(token=secret, state="1") for secret in SECRETS]
    done: list[str] = []

    def adopting(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        """Adopt the first record once the import has found that it is not here, before the savepoint of its page."""
        if "keys_keyorigin" in sql and " IN (" in sql and not done:
            done.append("looked up")
        elif sql.startswith("SAVEPOINT") and done == ["looked up"]:
            done.append("adopted")
            key = APIKey.objects.create(name="Adopted", key=SECRETS[0])
            KeyOrigin.objects.create(source="oldkeys.plainkey", ref=str(row.pk), api_key=key, at=timezone.now())
        return execute(sql, *rest)

    with connection.execute_wrapper(adopting):
        said = imported()
    assert (said.status, counted(said)) == (0, ["2 imported", "1 was here already"])
    assert (done[-1], APIKey.objects.get(key=SECRETS[0]).name) == ("adopted", "Adopted")


class TestWhatIsSaid:
    def test_no_part_of_a_secret(self, db: None) -> None:
        secrets = [*SECRETS, SECRETS[0], HASH, "ü" + "k3y" * 9, "0a" * 70]
        bare = [secret.removeprefix("pbkdf2_sha256") for secret in secrets]
        parts = {secret[at : at + 12] for secret in bare for at in range(len(secret) - 11)}
        for secret in secrets:
            PlainKey.objects.create(token=secret, label=secret, shown=secret, state="1", whose=secret)
        for options in (
            (),
            ("--prefix", "shown"),
            ("--scope-field", "whose"),
            ("--revoked", "whose"),
            ("--expires", "whose"),
        ):
            for form in ((), ("--json",)):
                said = imported("--dry-run", *options, *form)
                nameless = run("keys_import", *PLAIN[:-2], "--dry-run", *options, *form)
                for text in (said.out, said.err, nameless.out, nameless.err):
                    assert [part for part in parts if part in text] == []

    def test_a_primary_key_that_is_the_key_is_told_by_its_name(self, db: None) -> None:
        of = ("--model", "oldkeys.TokenKey", "--key", "token", "--digest", "plain")
        for token, label in (("é" * 20, "Billing"), ("ü" * 20, "")):
            TokenKey.objects.create(token=token, label=label)
        said = run("keys_import", *of, "--name", "label")
        assert "oldkeys.TokenKey Billing: token holds characters" in said.out
        assert "oldkeys.TokenKey (row " in said.out
        assert "é" not in said.out

    def test_json_says_the_same(self, rows: list[PlainKey]) -> None:
        PlainKey.objects.filter(pk=rows[0].pk).update(state="0")
        bad = PlainKey.objects.create(token="", state="1")
        said = imported("--json")
        assert said.status == 1
        told = json.loads(said.out)
        key = APIKey.objects.get(key=SECRETS[0])
        assert (told["source"], told["dry_run"], told["imported"], told["here_already"]) == (
            "oldkeys.plainkey",
            False,
            0,
            3,
        )
        assert told["left"] == [{"record": f"oldkeys.PlainKey {bad.pk}", "reason": "token is empty"}]
        assert told["changed_there"] == [
            {"record": f"oldkeys.PlainKey {rows[0].pk}", "what": "is inactive there", "key_id": key.pk, "key": str(key)}
        ]

    def test_a_dry_run_says_what_the_run_says(self, db: None) -> None:
        for token in (*SECRETS, SECRETS[1], "", "$2b$12$abcdefghijklmnopqrstuv"):
            PlainKey.objects.create(token=token, state="1")
        tried = imported("--dry-run")
        assert not APIKey.objects.exists()
        assert imported().out == tried.out.replace("would be imported", "imported")


class TerminalText(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "verbosity"), [(TerminalText(), 1), (TerminalText(), 0), (StringIO(), 1)])
def test_a_terminal_shows_how_far_it_is_and_nothing_else_does(
    rows: list[PlainKey], stream: StringIO, verbosity: int
) -> None:
    call_command("keys_import", *PLAIN, "--dry-run", stdout=StringIO(), stderr=stream, verbosity=verbosity)
    if stream.isatty() and verbosity:
        assert re.fullmatch(r"(\r\[#{24}\] 3 of 3 records, \d+/s )+\n", stream.getvalue())
    else:
        assert stream.getvalue() == ""


@pytest.mark.parametrize(("source", "make"), [("knox", knox), ("api-key", api_key)])
@pytest.mark.django_db
def test_a_primary_key_that_is_a_digest_is_shown_to_nobody(
    admin_client: Client, source: str, make: Callable[[], str]
) -> None:
    make()
    run("keys_import", source)
    (origin,) = KeyOrigin.objects.all()
    assert len(origin.ref) >= 128
    assert str(origin) == origin.source
    text = text_of(admin_client.get(page_of(origin.api_key)))
    assert origin.source in text
    assert origin.ref[:40] not in text
    AuthToken.objects.all().delete()
    OtherAPIKey.objects.all().delete()
    said = run("keys_import", source)
    assert f"{origin.source} is not there any more: key {origin.api_key_id}" in said.out


class TestWhatIsGoodThereIsNotEnded:
    def test_where_it_is_another_table_with_the_same_primary_keys(self, rows: list[PlainKey]) -> None:
        for row in rows:
            PlainKey.objects.filter(pk=row.pk).update(token=f"another key, number {row.pk}")
        assert "is it another table" in imported("--deactivate").err
        assert APIKey.objects.filter(is_active=True).count() == 3

    def test_where_every_record_has_another_primary_key(self, rows: list[PlainKey]) -> None:
        for row in PlainKey.objects.all():
            PlainKey.objects.filter(pk=row.pk).update(id=row.pk + 1000)
        for options in ([], ["--deactivate"], ["--deactivate"]):
            said = imported(*options)
            assert (said.status, counted(said)) == (0, ["0 imported", "3 were here already"])
        assert APIKey.objects.filter(is_active=True).count() == 3

    @pytest.mark.parametrize("change", [{"state": "0"}, {"token": "another key"}, {"is_deleted": True}])
    def test_where_a_later_record_has_the_same_key(self, rows: list[PlainKey], change: dict[str, Any]) -> None:
        PlainKey.objects.create(token=SECRETS[0], state="1")
        PlainKey.objects.filter(pk=rows[0].pk).update(**change)
        for options in ([], ["--deactivate"], ["--deactivate"]):
            imported(*options)
        assert APIKey.objects.get(key=SECRETS[0]).is_active

    def test_where_our_reading_of_it_fails(self, rows: list[PlainKey], tmp_path: Path) -> None:
        PlainKey.objects.filter(pk=rows[0].pk).update(state="perhaps", label=SECRETS[0])
        (file := tmp_path / "scopes.json").write_text('{"Key": []}')
        said = imported("--deactivate", "--scope-map", str(file))
        assert said.status == 1
        assert "3 changed there since, and were accepted here" in said.out
        assert "0 of them" not in said.out
        assert APIKey.objects.filter(is_active=True).count() == 3


def test_of_two_with_one_key_it_is_said_that_the_first_is_not_good(db: None) -> None:
    for state in ("0", "1"):
        PlainKey.objects.create(token=SECRETS[0], state=state)
    for _ in range(2):
        said = imported()
        assert said.status == 1
        assert "the same key as another record, which comes first and is not good there" in said.out
