"""`keys_import --model`: clients of any system with a table of keys go on with the keys they have."""

import base64
import hashlib
import json
import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone
from pytest_django import Settings
from rest_framework.authtoken.models import Token

from keys.models import APIKey, AuditEvent, KeyOrigin
from keys.signals import key_life_cycle
from tests.docs.pages import block
from tests.oldkeys.models import ForeignTable, OctetsKey, PartnerKey, PersonalKey, PlainKey, TokenKey
from tests.support.commands import Run, run
from tests.support.other_packages import call

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.support.other_packages")]

SECRET = "sk_live_51Hx9Qm2Zt7Lw4Rb8Vn3Kd6Pf0"
SHA_256, SHA_512 = hashlib.sha256(SECRET.encode()), hashlib.sha512(SECRET.encode())
PLAIN = ("--model", "oldkeys.PlainKey", "--key", "token", "--digest", "plain")
PERSONAL = ("--model", "oldkeys.PersonalKey", "--key", "secure_value", "--digest", "sha256")


def imported(*options: str, of: tuple[str, ...] = PLAIN) -> Run:
    return run("keys_import", *of, *options)


def tagged(tag: str, octets: bytes) -> str:
    return tag + octets.hex()


def reason(said: Run) -> str:
    """Return why the one record could not come."""
    (only,) = reasons_of(said)
    return only


def reasons_of(said: Run) -> list[str]:
    assert said.status == 1, said
    return [line.partition(": ")[2] for line in said.out.splitlines() if line.startswith("oldkeys.")]


def goes_on(secret: str = SECRET) -> bool:
    return call("/new/", f"Api-Key {secret}") == 200


class TestAClientGoesOn:
    @pytest.mark.parametrize("secret", [SECRET, "x" * 128, "abc", "0123456789abcdef" * 4, "a key: of-words."])
    def test_with_a_plain_key(self, secret: str) -> None:
        PlainKey.objects.create(token=f" {secret}\n", label="Billing")
        assert not goes_on(secret)
        assert imported("--name", "label", "--scope", "users:read").status == 0
        assert goes_on(secret)
        assert AuditEvent.objects.get(event="used").key_name == "Billing"

    @pytest.mark.parametrize("kind", ["sha256", "sha512"])
    def test_with_a_digest_in_any_spelling(self, kind: str) -> None:
        name = f"SHA-{kind[3:]}"
        spellings: list[Callable[[bytes], str]] = [
            bytes.hex,
            lambda octets: octets.hex().upper(),
            *[partial(tagged, tag) for tag in (f"{kind}$", f"{kind}$$", f"{name}=", f"{{{kind}}}", f"{kind}:")],
            lambda octets: f"{kind}-{base64.b64encode(octets).decode()}",
            lambda octets: base64.encodebytes(octets).decode(),
            lambda octets: base64.urlsafe_b64encode(octets).decode().rstrip("="),
        ]
        secrets = [f"{SECRET}{number}" for number in range(len(spellings))]
        held = [
            spell(hashlib.new(kind, text.encode()).digest()) for spell, text in zip(spellings, secrets, strict=True)
        ]
        PersonalKey.objects.bulk_create(PersonalKey(secure_value=value) for value in held)
        said = imported("--scope", "users:read", of=(*PERSONAL[:-1], kind))
        assert said.status == 0, said.out
        assert [secret for secret in secrets if not APIKey.objects.filter(key=secret).exists()] == []
        assert goes_on(secrets[0])
        assert not goes_on(held[0])

    @pytest.mark.parametrize(("kind", "stored"), [("sha256", SHA_256), ("sha512", SHA_512)])
    @pytest.mark.parametrize("is_text", [False, True])
    def test_with_octets(self, kind: str, stored: Any, is_text: bool) -> None:
        OctetsKey.objects.create(digest=stored.hexdigest().encode() if is_text else stored.digest())
        of = ("--model", "oldkeys.OctetsKey", "--key", "digest", "--digest", kind)
        assert imported("--scope", "users:read", of=of).status == 0
        assert goes_on()

    def test_of_a_child_and_of_a_table_that_django_does_not_manage(self) -> None:
        PartnerKey(token=SECRET, partner="Acme").save()
        of = ("--model", "oldkeys.PartnerKey", "--key", "token", "--digest", "plain")
        assert imported("--name", "partner", "--scope", "users:read", of=of).status == 0
        with connection.cursor() as cursor:
            cursor.execute("CREATE TEMPORARY TABLE oldkeys_foreign (id integer PRIMARY KEY, token varchar(64))")
        ForeignTable.objects.create(id=1, token="another key")
        of = ("--model", "oldkeys.ForeignTable", "--key", "token", "--digest", "plain")
        assert imported("--scope", "users:read", of=of).status == 0
        assert (goes_on(), goes_on("another key")) == (True, True)
        assert {key.name for key in APIKey.objects.all()} == {"Acme", "oldkeys.ForeignTable 1"}

    def test_where_the_key_is_in_json(self) -> None:
        PlainKey.objects.create(may={"token": SECRET})
        of = ("--model", "oldkeys.PlainKey", "--key", "may__token", "--digest", "plain")
        assert imported("--scope", "users:read", of=of).status == 0
        assert goes_on()


class TestWhatIsRefused:
    def test_no_plain_key(self) -> None:
        refused: list[tuple[str | None, str]] = [
            (None, "empty"),
            ("  ", "empty"),
            ("x" * 129, "longer than 128"),
            ("clé-secrète", "no header can carry"),
            ("two\nlines", "no header can carry"),
            ("pbkdf2_sha256$260000$salt$aGFzaA==", "pbkdf2_sha256"),
            ("argon2$argon2id$v=19$m=102400,t=2,p=8$c2FsdA$aGFzaA", "argon2"),
            ("$argon2id$v=19$m=102400,t=2,p=8$c2FsdA$aGFzaA", "argon2id"),
            ("$2b$12$abcdefghijklmnopqrstuv", "bcrypt"),
            ("bcrypt_sha256$$2b$12$abcdefghijklmnopqrstuv", "bcrypt_sha256"),
            (f"sha256${SHA_256.hexdigest()}", "sha256"),
            (f"{{SHA512}}{SHA_512.hexdigest()}", "sha512"),
        ]
        PlainKey.objects.bulk_create(PlainKey(token=token) for token, _ in refused)
        reasons = reasons_of(imported())
        assert [words for (_, words), said in zip(refused, reasons, strict=True) if words not in said] == []
        assert not APIKey.objects.exists()

    def test_a_digest_that_the_field_names_is_never_a_plain_key(self) -> None:
        OctetsKey.objects.create(digest=SHA_256.hexdigest().encode())
        of = ("--model", "oldkeys.OctetsKey", "--key", "digest", "--digest", "plain")
        assert "is called a digest" in reason(imported(of=of))

    def test_no_digest(self) -> None:
        refused: list[tuple[str | None, str]] = [
            (None, "empty"),
            (SHA_512.hexdigest(), "as long as one of SHA-512"),
            ("a1" * 20, "SHA-1"),
            ("a1" * 16, "MD5"),
            (SHA_256.hexdigest()[:-1], "no SHA-256 digest"),
            (f"sha512${SHA_512.hexdigest()}", "with sha512, and not with sha256"),
            (f"sha512${SHA_256.hexdigest()}", "with sha512, and not with sha256"),
            (f"sha256$salt${SHA_256.hexdigest()}", "a salt"),
            (f"md5${SHA_256.hexdigest()}", "md5"),
            ("pbkdf2_sha256$260000$salt$aGFzaA==", "pbkdf2_sha256"),
            ("$2y$12$abcdefghijklmnopqrstuv", "bcrypt"),
            (SECRET, "no SHA-256 digest"),
        ]
        PersonalKey.objects.bulk_create(
            PersonalKey(id=UUID(int=number), secure_value=stored) for number, (stored, _) in enumerate(refused)
        )
        reasons = reasons_of(imported(of=PERSONAL))
        assert [words for (_, words), said in zip(refused, reasons, strict=True) if words not in said] == []

    def test_the_second_of_two_with_one_key(self) -> None:
        for label in ("A", "B"):
            PlainKey.objects.create(token=SECRET, label=label)
        for status in (["1 imported", "0 were here already"], ["0 imported", "1 was here already"]):
            said = imported("--name", "label")
            assert said.status == 1
            assert [line.partition(",")[0] for line in said.out.splitlines()[:2]] == status
            assert "1 cannot be carried over: the same key as another record" in said.out
        assert APIKey.objects.get().name == "A"

    def test_others_come_all_the_same(self) -> None:
        for token in (None, SECRET):
            PlainKey.objects.create(token=token)
        assert "1 imported" in imported().out

    def test_what_is_hidden_by_the_manager_does_not_come(self) -> None:
        PlainKey.objects.create(token=SECRET, is_deleted=True)
        assert "0 imported" in imported().out

    @pytest.mark.skipif(connection.vendor != "sqlite", reason="The others do not hold such a value.")
    def test_what_the_database_cannot_read(self) -> None:
        for token in ("good one", SECRET):
            PlainKey.objects.create(token=token, made=timezone.now())
        with connection.cursor() as cursor:
            cursor.execute("UPDATE oldkeys_plainkey SET made = '2024-13-45 00:00:00' WHERE token = %s", [SECRET])
        said = imported("--created", "made")
        assert (reason(said), "1 imported" in said.out) == ("the database cannot read it", True)


class TestActivity:
    @pytest.mark.parametrize(
        ("state", "is_active"),
        [("active", True), ("Yes", True), ("1", True), ("t", True), ("revoked", False), ("0", False), ("FALSE", False)],
    )
    def test_a_word(self, state: str, is_active: bool) -> None:
        PlainKey.objects.create(token=SECRET, state=state)
        assert imported("--active", "state").status == 0
        assert APIKey.objects.get().is_active is is_active

    @pytest.mark.parametrize("state", [None, "", "perhaps", "2"])
    def test_what_says_neither(self, state: str | None) -> None:
        PlainKey.objects.create(token=SECRET, state=state)
        assert reason(imported("--active", "state")) == "state says neither yes nor no"

    @pytest.mark.parametrize(("number", "is_active"), [(0, False), (1, True)])
    def test_a_number(self, number: int, is_active: bool) -> None:
        PlainKey.objects.create(token=SECRET, number=number)
        assert imported("--active", "number").status == 0
        assert APIKey.objects.get().is_active is is_active

    @pytest.mark.parametrize(
        ("days", "is_active", "expires"), [(None, True, False), (-1, False, False), (1, True, True)]
    )
    def test_a_moment_of_revocation(self, days: int | None, is_active: bool, expires: bool) -> None:
        at = None if days is None else timezone.now() + timedelta(days=days)
        PersonalKey.objects.create(secure_value=SHA_256.hexdigest(), revoked_at=at)
        assert imported("--revoked", "revoked_at", of=PERSONAL).status == 0
        key = APIKey.objects.get()
        assert (key.is_active, key.expires_at) == (is_active, at if expires else None)

    @pytest.mark.parametrize("is_revoked", [False, True])
    def test_a_switch_of_revocation(self, is_revoked: bool) -> None:
        OctetsKey.objects.create(digest=SHA_256.digest(), revoked=is_revoked)
        of = ("--model", "oldkeys.OctetsKey", "--key", "digest", "--digest", "sha256")
        assert imported("--revoked", "revoked", of=of).status == 0
        assert APIKey.objects.get().is_active is not is_revoked


class TestMoments:
    AT = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)

    @pytest.mark.parametrize("zoned", [True, False])
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("number", AT.timestamp()),
            ("number", AT.timestamp() * 1000),
            ("state", "2031-05-06T07:08:09Z"),
            ("state", "2031-05-06 09:08:09+02:00"),
            ("state", str(int(AT.timestamp()))),
        ],
    )
    def test_an_expiry(self, settings: Settings, zoned: bool, field: str, value: Any) -> None:
        settings.USE_TZ = zoned
        PlainKey.objects.create(token=SECRET, **{field: value})
        assert imported("--expires", field).status == 0
        held = APIKey.objects.get().expires_at
        assert held is not None
        assert (held if zoned else held.replace(tzinfo=UTC)) == self.AT

    @pytest.mark.parametrize("zoned", [True, False])
    def test_a_date_and_a_moment(self, settings: Settings, zoned: bool) -> None:
        settings.USE_TZ, made = zoned, timezone.now() - timedelta(days=400)
        PlainKey.objects.create(token=SECRET, made=made if zoned else made.replace(tzinfo=None), day="2031-05-06")
        assert imported("--created", "made", "--expires", "day").status == 0
        key = APIKey.objects.get()
        assert (key.expires_at, key.created_at) == (
            datetime(2031, 5, 6, tzinfo=UTC if zoned else None), made if zoned else made.replace(tzinfo=None),
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("state", "soon"),
            ("state", "2031-02-30"),
            ("number", 0),
            ("number", -5),
            ("number", 1e300),
            ("number", 2e15),
        ],
    )
    def test_nonsense(self, field: str, value: Any) -> None:
        PlainKey.objects.create(token=SECRET, **{field: value})
        assert reason(imported("--expires", field)) == f"{field} holds no moment"

    def test_a_key_that_is_made_tomorrow(self) -> None:
        PlainKey.objects.create(token=SECRET, made=timezone.now() + timedelta(days=1))
        assert reason(imported("--created", "made")) == "made is in the future"


class TestOwners:
    @pytest.fixture(autouse=True)
    def _owners(self, settings: Settings) -> None:
        settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User", "ownership.Team"]}

    def made(self, **values: Any) -> User:
        user = User.objects.create(username="anna")
        PlainKey.objects.create(
            **{"token": SECRET, "user": user, "holder": user, "whose": f"auth.User:{user.pk}"} | values
        )
        return user

    @pytest.mark.parametrize("field", ["user", "holder", "whose"])
    def test_one_by_a_relation_or_a_reference(self, field: str) -> None:
        user = self.made()
        assert imported("--owner", field, "--name", "user__username").status == 0
        key = APIKey.objects.get()
        assert (key.owner, key.name) == (user, "anna")

    def test_one_by_a_primary_key_where_one_model_may_own_keys(self, settings: Settings) -> None:
        settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User"]}
        user = self.made()
        PlainKey.objects.update(whose=str(user.pk))
        assert imported("--owner", "whose").status == 0
        assert APIKey.objects.get().owner == user

    def test_a_number_of_which_nobody_knows_the_model(self) -> None:
        self.made(whose="7")
        assert "says of no model" in reason(imported("--owner", "whose"))

    def test_one_who_is_gone(self) -> None:
        self.made(user_id=10**6, whose="auth.user:1000000")
        assert reason(imported("--owner", "user")) == "its owner is gone"
        assert reason(imported("--owner", "whose")) == "its owner is gone"
        assert "user__username leads to" not in imported("--name", "user__username").err

    def test_one_who_is_gone_by_another_column_than_the_primary_key(self) -> None:
        self.made()
        User.objects.all().delete()
        for options in ([], ["--name", "holder__username"]):
            assert "gone" in reason(imported("--owner", "holder", *options))
        assert not APIKey.objects.exists()

    def test_none(self) -> None:
        self.made(user=None)
        assert "no owner" in reason(imported("--owner", "user"))
        assert "1 imported" in imported().out

    def test_keys_of_one_who_may_have_none_come_and_are_refused_at_use(self) -> None:
        self.made()
        User.objects.update(is_active=False)
        assert imported("--owner", "user", "--scope", "users:read").status == 0
        assert not goes_on()
        assert AuditEvent.objects.get(event="refused").reason == "owner"

    def test_the_manuals_command(self) -> None:
        user = self.made(label="Billing", state="active", made=timezone.now())
        command = shlex.split(block("docs/moving-in.md", "### From any table", "sh"))
        options = ["oldkeys.PlainKey" if word == "billing.Token" else word for word in command[2:] if word.strip()]
        assert "1 would be imported" in run(*options).out
        assert run(*options[:-1]).status == 0
        key = APIKey.objects.get()
        assert (command[-1], key.name, key.owner) == ("--dry-run", "Billing", user)

    def test_a_package_takes_them_too(self, settings: Settings) -> None:
        from tests.support.other_packages import authtoken

        authorization = authtoken()
        assert run("keys_import", "authtoken", "--owner", "user", "--scope", "users:read").status == 0
        assert APIKey.objects.get().owner == User.objects.get()
        assert call("/new/", authorization) == 200


class TestScopes:
    @pytest.mark.parametrize(
        "may", [["users:read", "employees:read"], "users:read,employees:read", '["users:read", "employees:read"]']
    )
    def test_of_a_field(self, may: Any) -> None:
        PlainKey.objects.create(token=SECRET, may=may)
        PlainKey.objects.create(token="a second key")
        assert imported("--scope-field", "may").status == 0
        assert [key.scopes for key in APIKey.objects.order_by("pk")] == [["users:read", "employees:read"], []]

    @pytest.mark.parametrize(
        ("may", "words"),
        [
            (["users"], "what is no scope"),
            (["users:raed"], "not registered"),
            (["*"], "wildcard"),
            (["users:*"], "wildcard"),
            ({"a": 1}, "no list"),
        ],
    )
    def test_of_a_field_that_gives_none(self, may: Any, words: str) -> None:
        PlainKey.objects.create(token=SECRET, may=may)
        PlainKey.objects.create(token="a second key", may=["users:read"])
        said = imported("--scope-field", "may")
        assert words in reason(said)
        assert "1 imported" in said.out

    def test_by_a_map(self, tmp_path: Path) -> None:
        held = {
            "admin": ["*"],
            "read": ["users:read"],
            "write": ["tracking:write"],
            "3": ["users:*"],
            "": [],
            "Ann": ["*"],
        }
        file = tmp_path / "scopes.json"
        file.write_text(json.dumps(held))
        for number, may in enumerate(["admin", ["read", "write"], 3, None, "nobody"]):
            PlainKey.objects.create(token=f"key {number}", may=may)
        said = imported("--scope-field", "may", "--scope-map", str(file))
        assert reason(said) == "the scope map does not hold what may says"
        assert [key.scopes for key in APIKey.objects.order_by("pk")] == [
            ["*"], ["users:read", "tracking:write"], ["users:*"], [],
        ]  # fmt: skip

    def test_by_a_map_of_names(self, tmp_path: Path) -> None:
        (file := tmp_path / "scopes.json").write_text('{"Ann": ["users:read"], "Bob": ["users:raed"]}')
        for name in ("Ann", "Bob", "Cid"):
            PlainKey.objects.create(token=f"key of {name}", label=name)
        said = imported("--name", "label", "--scope-map", str(file))
        assert "the scope map does not hold its name" in said.out
        assert 'the scope map gives one that KEYS["SCOPES"] lacks' in said.out
        assert APIKey.objects.get().scopes == ["users:read"]

    @pytest.mark.parametrize(
        ("text", "words"), [("{", "not JSON"), ("[]", "no map"), ('{"a": "b:c"}', "no map"), (None, "cannot be read")]
    )
    def test_by_what_is_no_map(self, tmp_path: Path, text: str | None, words: str) -> None:
        file = tmp_path / "scopes.json"
        if text is not None:
            file.write_text(text)
        said = imported("--scope-map", str(file))
        assert said.status == 1
        assert words.replace("no map", "not a map") in said.err


class TestNamesAndPrefixes:
    def test_a_name_is_made_acceptable(self) -> None:
        for label in ("a\x1bb", " ", "n" * 150):
            PlainKey.objects.create(token=f"{label[:1]}-key", label=label)
        assert imported("--name", "label").status == 0
        pk = PlainKey.objects.get(label=" ").pk
        assert {key.name for key in APIKey.objects.all()} == {r"a\x1bb", f"oldkeys.PlainKey {pk}", "n" * 100}

    @pytest.mark.parametrize("label", [SECRET, f"key={SECRET}", f"Ann {SECRET[4:24]}…"])
    def test_a_name_that_holds_the_secret(self, label: str) -> None:
        PlainKey.objects.create(token=SECRET, label=label)
        assert reason(imported("--name", "label")) == "label holds the key or a part of it"

    @pytest.mark.parametrize("label", [SECRET, f"key={SECRET}"])
    def test_a_name_that_holds_the_secret_of_a_digest(self, label: str) -> None:
        PersonalKey.objects.create(secure_value=SHA_256.hexdigest(), label=label)
        assert reason(imported("--name", "label", of=PERSONAL)) == "label holds the key or a part of it"

    @pytest.mark.parametrize(
        ("shown", "prefix"),
        [
            ("sk_live_51Hx", "sk_live_51Hx"),
            ("sk_…d6Pf", "sk_d6Pf"),
            ("", "sk_live_51Hx9Qm2"),
            (SECRET, "sk_live_51Hx9Qm2"),
            (SECRET[:20], SECRET[:20]),
            (SECRET[:-4], "sk_live_51Hx9Qm2Zt7L"),
            ("Key of the year 2024 number 7", "Key of the year 2024"),
        ],
    )
    def test_a_prefix_of_a_plain_key(self, shown: str, prefix: str) -> None:
        PlainKey.objects.create(token=SECRET, shown=shown)
        assert imported("--prefix", "shown").status == 0
        assert APIKey.objects.get().prefix == prefix

    @pytest.mark.parametrize(("shown", "prefix"), [("phx_1234", "phx_1234"), (SECRET, ""), ("", "")])
    def test_a_prefix_of_a_digest(self, shown: str, prefix: str) -> None:
        PersonalKey.objects.create(secure_value=SHA_256.hexdigest(), mask_value=shown)
        assert imported("--prefix", "mask_value", of=PERSONAL).status == 0
        assert APIKey.objects.get().prefix == prefix


class TestWhatIsOnRecord:
    def test_the_event_says_from_where(self) -> None:
        PlainKey.objects.create(token=SECRET)
        imported()
        event = AuditEvent.objects.get()
        assert (event.event, event.detail) == ("created", "imported from oldkeys.plainkey")
        assert event.actor.startswith("command line: ")
        assert event.changes is not None
        assert event.changes["is_active"] == [None, True]

    def test_which_record_it_was_and_never_by_its_secret(self) -> None:
        row = PlainKey.objects.create(token=SECRET)
        TokenKey.objects.create(token=SECRET[::-1])
        imported()
        imported(of=("--model", "oldkeys.TokenKey", "--key", "token", "--digest", "plain"))
        origins = {origin.source: origin.ref for origin in KeyOrigin.objects.all()}
        assert origins["oldkeys.plainkey"] == str(row.pk)
        assert origins["oldkeys.tokenkey"].startswith("sha256$")
        assert SECRET[::-1] not in origins["oldkeys.tokenkey"]

    def test_events_of_many_keys_are_those_of_one(self) -> None:
        for number in range(3):
            PlainKey.objects.create(token=f"key number {number}", label=f"Number {number}")
        imported("--name", "label")
        events = AuditEvent.objects.order_by("pk")
        assert [(event.key_name, event.api_key.key) for event in events if event.api_key] == [
            (key.name, key.key) for key in APIKey.objects.order_by("pk")
        ]


class TestMistakes:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ([], "authtoken, knox, api-key, or any table by --model"),
            (["--model", "oldkeys.PlainKey"], "needs --key"),
            (["--model", "oldkeys.PlainKey", "--key", "token"], "needs --digest"),
            (["--model", "oldkeys.PlainKy", "--key", "token", "--digest", "plain"], "Did you mean oldkeys.PlainKey?"),
            (["--model", "keys.APIKey", "--key", "key", "--digest", "plain"], "the table of keys itself"),
            (["authtoken", "--key", "key"], "--key is for keys_import --model without the name of a package"),
            (["authtoken", "--digest", "plain"], "--digest is for"),
            ([*PLAIN, "--name", "lable"], "has no field lable. Did you mean label? It has: "),
            ([*PLAIN, "--name", "user__usename"], "auth.User has no field usename. Did you mean username?"),
            ([*PLAIN, "--name", "label__upper"], "leads nowhere"),
            ([*PLAIN, "--scope-field", "groups"], "leads to many rows"),
            ([*PLAIN, "--name", "groups__name"], "leads to many rows"),
            ([*PLAIN, "--name", "token"], "token holds the key"),
            ([*PLAIN, "--owner", "user"], "owners"),
            ([*PLAIN, "--scope", "users:raed"], "users:raed"),
            ([*PLAIN, "--scope-field", "may", "--scope", "users:read"], "leave --scope"),
            ([*PLAIN, "--database", "nowhere"], "nowhere"),
        ],
    )
    def test_are_told_in_a_sentence(self, options: list[str], words: str) -> None:
        said = run("keys_import", *options)
        assert (said.status, said.out) == (1, "")
        assert words in said.err

    def test_a_relation_to_whom_may_own_no_keys(self, settings: Settings) -> None:
        settings.KEYS = {**settings.KEYS, "OWNERS": ["ownership.Team"]}
        assert 'auth.User, which is not in KEYS["OWNERS"]' in imported("--owner", "user").err


def test_a_receiver_of_the_life_cycle_is_told_of_each_key_after_the_commit_without_its_secret(
    django_capture_on_commit_callbacks: Any,
) -> None:
    told: list[tuple[str, str, Any]] = []

    def tell(*, key: APIKey, event: str, changes: Any, **kwargs: object) -> None:
        told.append((key.name, str(key.key), changes["name"]))

    key_life_cycle.connect(tell)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            for number in range(3):
                PlainKey.objects.create(token=f"{SECRET}{number}", label=f"Number {number}")
            imported("--name", "label")
            assert told == []
            keys = [APIKey(name="Given a key", key=f"{SECRET}-own{number}") for number in range(2)]
            APIKey.objects.bulk_create(keys)
    finally:
        key_life_cycle.disconnect(tell)
    assert told == [(key.name, str(key.key), [None, key.name]) for key in APIKey.objects.order_by("pk")]
    assert keys[0].key == f"{SECRET}-own0"


def test_a_token_that_somebody_typed_is_marked() -> None:
    Token.objects.create(key="letmein-please", user=User.objects.create(username="anna"))
    Token.objects.create(user=User.objects.create(username="bob"))
    assert run("keys_import", "authtoken").status == 0
    assert [*APIKey.objects.order_by("name").values_list("name", "typed_by_hand")] == [("anna", True), ("bob", False)]
