"""Owners on the command line: whose key is made, listed, reported, explained and ended."""

import json
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, models
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from keys.models import APIKey, AuditEvent
from tests.support.commands import Run, Terminal, run
from tests.support.keys import make_key
from tests.support.log import record

pytestmark = pytest.mark.django_db

OFF = 'Keys have no owners here: KEYS["OWNERS"] is empty.'


@pytest.fixture
def owners_on(settings: Settings) -> None:
    settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User", "auth.Group", "sessions.Session"]}


@pytest.fixture
def anna(owners_on: None) -> User:
    return User.objects.create_user("anna")


def is_paid(owner: Any) -> bool:
    """What the tests set as `OWNER_IS_ALLOWED`."""
    if str(owner) == "broken":
        raise RuntimeError("no accounting system")
    return str(owner) != "unpaid"


def ref(owner: models.Model) -> str:
    return f"{owner._meta.label_lower}:{owner.pk}"


def records(*arguments: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(run("keys_list", "--json", *arguments).out)}


def lines(*arguments: str) -> dict[str, str]:
    return {line.split()[1]: line for line in run("keys_list", *arguments).out.splitlines()[1:]}


class TestWhereKeysHaveNoOwners:
    @pytest.mark.parametrize(
        "command", [("keys_create", "TTS"), ("keys_list",), ("keys_usage",), ("keys_deactivate", "--yes")]
    )
    def test_naming_one_is_answered_with_a_sentence(self, command: tuple[str, ...]) -> None:
        answered = run(*command, "--owner", "auth.user:7")
        assert (answered.status, answered.out, answered.err) == (1, "", OFF)
        assert not APIKey.objects.exists()

    @pytest.mark.parametrize("command", ["keys_create", "keys_list", "keys_usage", "keys_deactivate", "keys_rotate"])
    def test_nothing_speaks_of_them(self, command: str, capsys: pytest.CaptureFixture[str]) -> None:
        record(make_key(), at=timezone.now())
        with pytest.raises(SystemExit):
            call_command(command, "--help")
        shown = capsys.readouterr().out
        for arguments in ([], ["--json"]) if command in {"keys_list", "keys_usage"} else ():
            shown += run(command, *arguments).out
        assert "owner" not in shown.lower()

    def test_no_query_asks_for_them(self) -> None:
        User.objects.create_user("anna")
        record(make_key(), at=timezone.now())
        with CaptureQueriesContext(connection) as queries:
            run("keys_list")
            run("keys_usage")
        assert "auth_user" not in str(queries.captured_queries)


class TestMaking:
    def test_the_owner_and_the_note_are_those_that_were_given(self, anna: User, client: Client) -> None:
        made = run("keys_create", "TTS", "--owner", f"auth.User:{anna.pk}", "--note", " ask Ben, ticket 12 ")
        key = APIKey.objects.get(key=made.out.strip())
        assert (key.owner, key.note) == (anna, "ask Ben, ticket 12")
        assert f"of {ref(anna)} (anna)" in made.err
        assert client.get("/guarded/", headers={"X-API-Key": made.out.strip()}).status_code == 200
        assert AuditEvent.objects.filter(event="created", owner=ref(anna)).exists()

    @pytest.mark.parametrize(
        ("owner", "sentence"),
        [
            ("auth.user:0", "There is no owner auth.user:0."),
            ("anna", "“anna” is no owner: write a colon and a primary key after one of these: auth.user, auth.group"),
            ("auth.permission:1", "“auth.permission:1” is no owner: write a colon and a primary key after one of"),
            ("auth.user:anna", "“auth.user:anna” is no owner: auth.user has no such primary key."),
            ("auth.user:\x1b[2J", "“auth.user:\\x1b[2J” is no owner"),
            ("", "“” is no owner"),
            ("0123456789" * 4, "That looks like a key itself"),
            (f"auth.user:{'f' * 40}", "That looks like a key itself"),
        ],
    )
    def test_nobody_owns_no_key(self, owners_on: None, owner: str, sentence: str) -> None:
        made = run("keys_create", "TTS", "--owner", owner)
        assert (made.status, made.out) == (1, "")
        assert made.err.startswith(sentence)
        assert not APIKey.objects.exists()

    def test_an_owner_whose_keys_would_be_refused_gets_none(self, anna: User) -> None:
        User.objects.update(is_active=False)
        made = run("keys_create", "TTS", "--owner", ref(anna))
        assert (made.status, made.out) == (1, "")
        assert f"{ref(anna)} is not active, or may have no keys." in made.err

    def test_a_function_that_fails_is_said_to_fail(self, anna: User, settings: Settings) -> None:
        User.objects.update(username="broken")
        settings.KEYS = {**settings.KEYS, "OWNER_IS_ALLOWED": "tests.commands.test_keys_owners.is_paid"}
        made = run("keys_create", "TTS", "--owner", ref(anna))
        assert (made.status, made.out) == (1, "")
        assert made.err == "Nobody can tell now whether the owner may have keys: what tells it fails."

    def test_a_key_in_a_note_is_refused_and_not_repeated(self) -> None:
        key, typed = make_key(), make_key("Typed", key="correct-horse")
        for secret in (key.key, f"auth_live_{'f' * 40}", typed.key):
            made = run("keys_create", "TTS", "--note", f"in place of “{secret}”, (or '{secret}').")
            assert (made.status, made.out) == (1, "")
            assert "--note holds what looks like a key itself" in made.err
            assert secret not in made.err
        assert APIKey.objects.count() == 2

    def test_what_cannot_be_written_out_has_not_happened(self, anna: User) -> None:
        class Full(StringIO):
            def flush(self) -> None:
                raise OSError(28, "No space left on device")

        with pytest.raises(CommandError, match="Nothing was changed, because standard output"):
            call_command("keys_create", "TTS", "--owner", ref(anna), stdout=Full())
        assert not APIKey.objects.exists()
        assert not AuditEvent.objects.exists()


class TestListing:
    def test_the_owner_stands_with_each_key(self, anna: User) -> None:
        make_key("Hers", owner=anna, note="ticket 12")
        make_key("Nobodys")
        listed = run("keys_list").out
        assert "OWNER" in listed.splitlines()[0]
        assert f"{ref(anna)} (anna)" in lines()["Hers"]
        shown = {name: (row["owner"], row["owner_name"], row["owner_objection"]) for name, row in records().items()}
        assert shown == {"Hers": (ref(anna), "anna", ""), "Nobodys": ("", "", "")}
        assert records()["Hers"]["note"] == "ticket 12"

    def test_keys_that_are_refused_for_their_owner_are_marked(self, anna: User, settings: Settings) -> None:
        people = {name: User.objects.create_user(name) for name in ("gone", "inactive", "unpaid", "broken")}
        session = Session.objects.create(pk="s", expire_date=timezone.now())
        for name, owner in {**people, "anna": anna, "unlisted": session}.items():
            make_key(name, owner=owner)
        User.objects.filter(username="inactive").update(is_active=False)
        User.objects.filter(username="gone")._raw_delete("default")
        settings.KEYS = {
            **settings.KEYS, "OWNERS": ["auth.User"], "OWNER_IS_ALLOWED": "tests.commands.test_keys_owners.is_paid",
        }  # fmt: skip
        marks = {
            "anna": ("", "never"), "gone": ("gone", "owner gone"), "inactive": ("inactive", "owner inactive"),
            "unpaid": ("not allowed", "owner not allowed"), "broken": ("unknown", "owner cannot be asked for"),
            "unlisted": ("unlisted", "owner's model not in OWNERS"),
        }  # fmt: skip
        assert {name: row["owner_objection"] for name, row in records().items()} == {
            name: objection for name, (objection, _) in marks.items()
        }
        assert all(lines()[name].endswith(mark) for name, (_, mark) in marks.items())

    def test_the_help_says_so(self, owners_on: None, capsys: pytest.CaptureFixture[str]) -> None:
        for command in ("keys_create", "keys_list", "keys_usage", "keys_deactivate"):
            with pytest.raises(SystemExit):
                call_command(command, "--help")
            assert "--owner OWNER" in capsys.readouterr().out

    def test_keys_of_one_owner(self, anna: User) -> None:
        ben = User.objects.create_user("ben")
        make_key("Annas", owner=anna)
        make_key("Bens", owner=ben)
        make_key("Nobodys")
        assert [*records("--owner", f"auth.User:{anna.pk}")] == ["Annas"]
        make_key("Soon", owner=ben, expires_at=timezone.now() + timedelta(days=1))
        make_key("Elsewhere", owner=anna, expires_at=timezone.now() + timedelta(days=1))
        due = run("keys_list", "--json", "--expiring", "2d", "--owner", ref(ben))
        assert (due.status, [row["name"] for row in json.loads(due.out)]) == (1, ["Soon"])

    def test_the_keys_of_an_owner_who_is_gone_are_found(self, anna: User, settings: Settings) -> None:
        make_key("Annas", owner=anna)
        User.objects.filter(pk=anna.pk)._raw_delete("default")
        assert records("--owner", ref(anna))["Annas"]["owner_objection"] == "gone"
        # So are those of a model that is not listed any more.
        settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.Group"]}
        assert records("--owner", ref(anna))["Annas"]["owner_objection"] == "unlisted"

    def test_an_owner_without_keys_and_one_who_never_was_differ(self, anna: User) -> None:
        make_key()
        assert json.loads(run("keys_list", "--json", "--owner", ref(anna)).out) == []
        assert run("keys_list", "--owner", ref(anna)).err == f"There are no keys of {ref(anna)} (anna).\n"
        unknown = run("keys_list", "--owner", "auth.user:0")
        assert (unknown.status, unknown.out) == (1, "")
        assert unknown.err == "There is no owner auth.user:0, and no key of one is on record."

    def test_many_keys_take_the_same_queries_for_each_model(self, owners_on: None) -> None:
        User.objects.bulk_create([User(username=f"user-{number}") for number in range(450)])
        Group.objects.bulk_create([Group(name=f"group-{number}") for number in range(50)])
        refs = [*map(ref, User.objects.all()), *map(ref, Group.objects.all())]

        def queries_for(numbers: range) -> tuple[int, int]:
            keys = [APIKey(name=f"key-{number}", owner_ref=refs[number % len(refs)]) for number in numbers]
            models.QuerySet[APIKey](APIKey).bulk_create(keys)
            with CaptureQueriesContext(connection) as queries:
                listed = run("keys_list", "--json")
            return len(json.loads(listed.out)), len(queries)

        (few, of_few), (many, of_many) = queries_for(range(440, 460)), queries_for(range(1980))
        assert (few, many) == (20, 2000)
        assert of_few == of_many <= 8

    def test_a_name_cannot_hurt_the_terminal_nor_the_table(self, anna: User) -> None:
        User.objects.update(username=f"\x1b[2J\nforged  line{'n' * 100}")
        make_key(owner=anna)
        listed = run("keys_list").out
        assert len(listed.splitlines()) == 2
        assert "\x1b" not in listed
        assert f"{ref(anna)} (\\x1b[2J\\nforged  linennn" in listed
        assert "n…)" in listed
        assert max(map(len, listed.splitlines())) < 200

    def test_an_owner_who_cannot_say_a_name_stops_no_list(self, anna: User, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(self: User) -> str:
            raise ValueError("no name")

        monkeypatch.setattr(User, "__str__", fail)
        key = make_key(owner=anna)
        record(key, at=timezone.now(), owner=ref(anna))
        assert records()["TTS-Backend"]["owner_name"] == ref(anna)
        assert "()" not in run("keys_list").out
        for command in (["keys_list"], ["keys_usage"], ["keys_list", "--owner", ref(anna)]):
            shown = run(*command)
            assert (shown.status, ref(anna) in shown.out) == (0, True)
        assert f"belongs to {ref(anna)}.\n" in explained(key).out

    def test_numbers_and_languages_change_no_reference(self, owners_on: None, settings: Settings) -> None:
        settings.USE_THOUSAND_SEPARATOR, settings.LANGUAGE_CODE = True, "de"
        anna = User.objects.create(pk=1234567, username="anna")
        run("keys_create", "TTS", "--owner", "auth.user:1234567")
        record(APIKey.objects.get(), at=timezone.now(), owner=ref(anna))
        assert "auth.user:1234567 (anna)" in run("keys_list").out
        assert "auth.user:1234567 (anna)" in run("keys_usage", "--owner", "auth.user:1234567").out
        assert records("--owner", "auth.user:1234567")["TTS"]["owner"] == "auth.user:1234567"

    def test_a_primary_key_may_be_a_text_with_blanks(self, owners_on: None) -> None:
        for text in ("a b", "a b ", " a b", "f" * 40):
            if not Session.objects.filter(pk=text).exists():  # MariaDB ignores blanks at the end
                make_key("of", owner=Session.objects.create(pk=text, expire_date=timezone.now()), note=text)
        assert [row["note"] for row in records("--owner", "sessions.session:a b").values()] == ["a b"]
        for owner_ref in ("sessions.session: a b", f"sessions.session:{'f' * 40}"):
            assert records("--owner", owner_ref)["of"]["owner"] == owner_ref

    def test_owners_that_differ_in_case_or_a_blank_are_several(self, owners_on: None) -> None:
        make_key("Upper", owner=Session.objects.create(pk="Anna", expire_date=timezone.now()))
        others = {"Lower": "sessions.session:anna", "Blank": "sessions.session:Anna "}
        for name, owner_ref in others.items():
            key = make_key(name)
            models.QuerySet(APIKey).filter(pk=key.pk).update(owner_ref=owner_ref)
            record(key, at=timezone.now(), owner=owner_ref)
        shown = {name: (row["owner_name"], row["owner_objection"]) for name, row in records().items()}
        assert shown == {"Upper": ("Anna", ""), "Lower": ("", "gone"), "Blank": ("", "gone")}
        for name, owner_ref in {"Upper": "sessions.session:Anna", **others}.items():
            assert [*records("--owner", owner_ref)] == [name]
            used = json.loads(run("keys_usage", "--json", "--owner", owner_ref).out)
            assert [row["key_name"] for row in used] == [*({name} & others.keys())]


class TestUsage:
    def test_the_log_is_asked_and_not_the_key(self, anna: User) -> None:
        ben = User.objects.create_user("ben")
        key, now = make_key("Handed-On", owner=anna), timezone.now()
        record(key, at=now, owner=ref(anna), path="/annas/")
        record(key, at=now, owner=ref(ben), path="/bens/")
        record(at=now, key_name="Nobodys", path="/nobodys/")

        def reported(*arguments: str) -> list[tuple[str, str, str]]:
            rows = json.loads(run("keys_usage", "--json", *arguments).out)
            return sorted((row["path"], row["owner"], row["owner_name"]) for row in rows)

        assert reported("--owner", ref(ben)) == [("/bens/", ref(ben), "ben")]
        assert reported("--owner", ref(ben), "--key", "Nobodys") == []
        assert reported() == [("/annas/", ref(anna), "anna"), ("/bens/", ref(ben), "ben"), ("/nobodys/", "", "")]
        table = run("keys_usage", "--owner", f"auth.User:{anna.pk}").out
        assert "OWNER" in table
        assert f"{ref(anna)} (anna)" in table
        assert "/bens/" not in table

    def test_an_owner_who_is_gone_is_reported_and_a_mistyped_one_is_not(self, anna: User) -> None:
        key, gone = make_key(owner=anna), ref(anna)
        record(key, at=timezone.now(), owner=gone)
        key.delete()
        anna.delete()
        (row,) = json.loads(run("keys_usage", "--json", "--owner", gone).out)
        assert (row["owner"], row["owner_name"]) == (gone, "")
        # Not ten times it, which may be beyond the column.
        label, _, pk = gone.partition(":")
        other = f"{label}:{int(pk) + 1}"
        mistyped = run("keys_usage", "--owner", other)
        assert (mistyped.status, mistyped.out) == (1, "")
        assert f"There is no owner {other}" in mistyped.err

    def test_an_owner_whose_keys_are_not_used(self, anna: User) -> None:
        make_key(owner=anna)
        reported = run("keys_usage", "--owner", ref(anna))
        assert (reported.status, reported.out, reported.err) == (0, "", "Not used in the last 30 days.\n")


def explained(key: APIKey, *arguments: str) -> Run:
    return run("keys_explain", *arguments, stdin=f"{key.key}\n")


class TestExplaining:
    def test_the_owner_of_an_accepted_key_is_named(self, anna: User) -> None:
        key = make_key(owner=anna, scopes=["users:read"])
        assert explained(key).out == (
            f"Accepted: TTS-Backend ({key.prefix}) holds the scopes users:read, belongs to {ref(anna)} (anna).\n"
        )

    def test_why_an_owner_is_no_good_is_told(self, anna: User, settings: Settings) -> None:
        key = make_key(owner=anna)
        refused = f"Refused: TTS-Backend ({key.prefix}) belongs to {ref(anna)}"
        settings.KEYS = {**settings.KEYS, "OWNER_IS_ALLOWED": "tests.commands.test_keys_owners.is_paid"}
        User.objects.update(username="unpaid")
        told = explained(key)
        assert (told.status, told.out) == (1, f"{refused} (unpaid), who may have no keys (OWNER_IS_ALLOWED).\n")
        User.objects.update(username="broken")
        told = explained(key)
        assert told.status == 1
        assert "nobody can tell now whether keys are allowed" in told.out
        User.objects.update(is_active=False)
        assert explained(key).out == f"{refused} (broken), who is inactive.\n"
        User.objects.filter(pk=anna.pk)._raw_delete("default")
        assert explained(key).out == f"{refused}, who is gone.\n"
        settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.Group"]}
        assert explained(key).out == f'{refused}, of a model that KEYS["OWNERS"] does not name.\n'

    def test_the_reason_of_a_deactivation_is_told(self, anna: User) -> None:
        key, hers = make_key("TTS"), make_key("Hers", owner=anna)
        run("keys_deactivate", "TTS", "--reason", "leaked in ticket 12")
        assert explained(key).out.endswith("): leaked in ticket 12.\n")
        gone = ref(anna)
        anna.delete()
        assert explained(hers).out.endswith(f"was deactivated just now: owner {gone} was deleted.\n")


class TestEnding:
    def test_a_reason_stands_in_the_event(self) -> None:
        key = make_key()
        run("keys_rotate", key.prefix, "--grace", "1h", "--reason", " it leaked ")
        run("keys_deactivate", key.prefix, "--reason", "replaced everywhere")
        rotated, ended = AuditEvent.objects.filter(event__in=["rotated", "deactivated"]).order_by("id")
        assert rotated.detail.endswith("; it leaked")
        assert ended.detail == "replaced everywhere"

    @pytest.mark.parametrize("command", ["keys_rotate", "keys_deactivate"])
    def test_a_secret_or_a_story_is_no_reason(self, command: str) -> None:
        key, other = make_key(), make_key("Typed", key="correct-horse")
        for text in (f"{key.key} leaked", f"was in auth_live_{key.key}?", f"see {other.key}.", "why " * 40):
            ended = run(command, key.prefix, "--reason", text)
            assert (ended.status, ended.out) == (1, "")
            assert ended.err.startswith("--reason ")
            assert str(key.key) not in ended.err
        assert not AuditEvent.objects.exclude(event="created").exists()

    def test_a_key_that_is_refused_for_its_owner_gets_no_successor(self, anna: User) -> None:
        key = make_key(owner=anna)
        User.objects.update(is_active=False)
        rotated = run("keys_rotate", key.prefix)
        assert (rotated.status, rotated.out) == (1, "")
        assert f"The owner of TTS-Backend ({key.prefix}) may have no keys" in rotated.err
        assert APIKey.objects.count() == 1

    def test_all_keys_of_somebody_who_leaves(self, anna: User, client: Client) -> None:
        keys = [make_key(name, owner=anna) for name in ("One", "Two")]
        other = make_key("Other", owner=User.objects.create_user("ben"))
        tried = run("keys_deactivate", "--owner", ref(anna), "--dry-run")
        assert (tried.status, tried.out) == (0, "")
        assert f"2 keys of {ref(anna)} (anna) would be refused from now on." in tried.err
        unasked = run("keys_deactivate", "--owner", ref(anna))
        assert unasked.status == 1
        assert f"say --yes to deactivate 2 keys of {ref(anna)} (anna)" in unasked.err
        assert APIKey.objects.accepted().count() == 3

        ended = run("keys_deactivate", "--owner", ref(anna), "--yes", "--reason", "left the company")
        *told, last = ended.err.splitlines()
        assert (ended.status, last) == (0, f"2 keys of {ref(anna)} (anna) are refused from now on.")
        assert told == [f"{name} ({key.prefix}): Not replaced by a successor; no use on record."
                        for name, key in zip(("One", "Two"), keys, strict=True)]  # fmt: skip
        for key in keys:
            assert client.get("/guarded/", headers={"X-API-Key": key.key}).status_code == 401
        assert client.get("/guarded/", headers={"X-API-Key": other.key}).status_code == 200
        details = AuditEvent.objects.filter(event="deactivated").values_list("detail", "owner")
        assert [*details] == [("left the company", ref(anna))] * 2
        again = run("keys_deactivate", "--owner", ref(anna), "--yes")
        assert (again.status, again.err) == (0, f"No key of {ref(anna)} (anna) is active.\n")

    def test_also_where_the_owner_is_gone_but_not_where_there_was_none(self, anna: User) -> None:
        key = make_key(owner=anna)
        User.objects.filter(pk=anna.pk)._raw_delete("default")
        assert run("keys_deactivate", "--owner", f"{ref(anna)}0", "--yes").status == 1
        assert f"1 key of {ref(anna)} is refused" in run("keys_deactivate", "--owner", ref(anna), "--yes").err
        key.refresh_from_db()
        assert not key.is_active

    @pytest.mark.parametrize(("answer", "is_ended"), [("y", True), ("", False)])
    def test_on_a_terminal_it_asks(self, anna: User, answer: str, is_ended: bool) -> None:
        key = make_key(owner=anna)
        with Terminal() as terminal, terminal.as_stdin() as stdin:
            terminal.type(answer + "\n")
            ended = run("keys_deactivate", "--owner", ref(anna), stdin=stdin)
        assert f"Deactivate 1 key of {ref(anna)} (anna)? [y/N]" in ended.err
        assert ended.status == (0 if is_ended else 1)
        key.refresh_from_db()
        assert key.is_active != is_ended

    def test_it_is_one_key_or_those_of_an_owner(self, anna: User) -> None:
        key = make_key(owner=anna)
        for arguments in ([], [key.prefix, "--owner", ref(anna)], ["--owner", ref(anna), "--if-safe"]):
            assert run("keys_deactivate", "--yes", *arguments).status == 1
        assert run("keys_deactivate", key.prefix, "--dry-run").status == 0
        key.refresh_from_db()
        assert key.is_active
