"""Whose a key is: how an owner is named, given and read."""

import copy
import pickle
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.functional import SimpleLazyObject
from pytest_django import Settings

from keys import lifecycle
from keys.models import APIKey, AuditEvent, RotationError, owners
from keys.verification import objection_to
from tests.ownership import LISTED
from tests.ownership.models import Building, Company, Hotel, OpenShop, Project, Shop, Till

keys: Any = APIKey.objects  # types do not know that a key is made with an owner

pytestmark = pytest.mark.django_db

UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.fixture(autouse=True)
def _owners_are_on(settings: Settings) -> None:
    settings.KEYS = {**settings.KEYS, "OWNERS": LISTED}


def till_of(code: str) -> Till:
    return Till.objects.create(shop=Shop.objects.create(code=code))


# How an owner is made, and how it is named.
OWNERS: dict[str, tuple[Callable[[], Any], str]] = {
    "integer": (lambda: User.objects.create(pk=7), "auth.user:7"),
    "large integer": (lambda: User.objects.create(pk=2_000_000_000), "auth.user:2000000000"),
    "uuid": (lambda: Company.objects.create(pk=UUID), f"ownership.company:{UUID}"),
    "uuid without its dashes": (lambda: Company.objects.create(pk=UUID.replace("-", "")), f"ownership.company:{UUID}"),
    "text": (lambda: Shop.objects.create(code="anna"), "ownership.shop:anna"),
    "upper case": (lambda: Shop.objects.create(code="Anna"), "ownership.shop:Anna"),
    "colons": (lambda: Shop.objects.create(code="a:b:"), "ownership.shop:a:b:"),
    "blanks": (lambda: Shop.objects.create(code=" a  b "), "ownership.shop: a  b "),
    "percent": (lambda: Shop.objects.create(code="100%_\\"), "ownership.shop:100%_\\"),
    "unicode": (lambda: Shop.objects.create(code="Müller 😀"), "ownership.shop:Müller 😀"),
    "long": (lambda: Shop.objects.create(code="x" * 240), f"ownership.shop:{'x' * 240}"),
    "relation": (lambda: till_of("t"), "ownership.till:t"),
    "proxy": (lambda: OpenShop.objects.create(code="p"), "ownership.shop:p"),
    "child": (lambda: Hotel.objects.create(pk=8), "ownership.building:8"),
    "lazy": (lambda: SimpleLazyObject(lambda: User.objects.create(pk=7)), "auth.user:7"),
    "deferred": (lambda: User.objects.only("email").get(pk=User.objects.create(pk=7).pk), "auth.user:7"),
}


@pytest.mark.parametrize("kind", OWNERS)
def test_an_owner_of_any_kind_is_found_again(kind: str) -> None:
    make, ref = OWNERS[kind]
    owner = make()
    key = keys.create(name="A", owner=owner)
    keys.create(name="B")
    found = APIKey.objects.get(pk=key.pk)
    assert found.owner_ref == ref
    assert found.owner is not None
    assert (found.owner.pk, objection_to(found, None)) == (found.owner._meta.pk.to_python(owner.pk), "")
    assert list(APIKey.objects.owned_by(owner)) == [key]
    # A proxy and a child are owners as the listed model has them.
    assert owners.read([ref, "auth.user:99", "nonsense"]) == {ref: found.owner}
    assert AuditEvent.objects.get(api_key=key).owner == ref


# What is no owner, and what is said of it.
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "unlisted": (lambda: Building, "ModelBase is not in"),
    "nobody": (AnonymousUser, 'AnonymousUser is not in KEYS["OWNERS"]: its instances own no keys.'),
    "number": (lambda: 7, 'int is not in KEYS["OWNERS"]: its instances own no keys.'),
    "key": (lambda: keys.create(name="K"), 'keys.APIKey is not in KEYS["OWNERS"]'),
    "unsaved": (lambda: User(username="x"), "Save the owner first."),
    "unsaved with a key": (lambda: Company(), "Save the owner first."),
    "deleted": (lambda: _deleted(User.objects.create()), "Save the owner first."),
    "too long": (lambda: Shop.objects.create(code="x" * 250), "is too long: an owner is named in 255 characters"),
    "unseen": (lambda: Shop.objects.create(code="a\u200bb"), "has no such primary key"),
}  # fmt: skip


def _deleted(owner: Any) -> Any:
    owner.delete()
    return owner


@pytest.mark.parametrize("kind", WRONG)
def test_what_owns_no_keys_is_a_sentence(kind: str) -> None:
    make, sentence = WRONG[kind]
    other = make()
    for give in (
        lambda: keys.create(name="A", owner=other),
        lambda: setattr(APIKey(name="A"), "owner", other),
        lambda: APIKey.objects.owned_by(other),
    ):
        with pytest.raises(ValidationError) as raised:
            give()
        assert [*raised.value.message_dict] == ["owner_ref"]
        assert sentence in raised.value.messages[0]
    assert not APIKey.objects.filter(name="A").exists()


# References that nobody but raw SQL can write, of which none names anybody.
SPELLINGS = [
    "auth.User:7", "AUTH.USER:7", "auth.user:07", "auth.user: 7", "auth.user:+7", "auth.user:7 ", "auth.user:\uff17",
    "auth.user:7.0", "auth.user:", "auth.user", ":7", ":", "7", "auth.user:7:", "auth.group:7", "auth.nosuch:7",
    "auth.user:" + "9" * 200, "auth.user:-1", "ownership.company:" + UUID.upper(), "ownership.company:" + UUID[:-1],
    "ownership.company:{" + UUID + "}", "ownership.shop:Anna", "ownership.shop:anna ", "ownership.shop:ánna",
    "ownership.till:anna", "keys.apikey:1", "auth.user:True", "auth.user:None", "x" * 255,

]  # fmt: skip


@pytest.mark.parametrize("ref", SPELLINGS)
def test_another_spelling_names_nobody(ref: str) -> None:
    User.objects.create(pk=7)
    Company.objects.create(pk=UUID)
    Shop.objects.create(code="anna")
    key = keys.create(name="A")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE keys_apikey SET owner_ref = %s", [ref])
    written = APIKey.objects.get(pk=key.pk)
    assert (written.owner, objection_to(written, None)) == (None, "owner")
    assert owners.names([ref]) == {}
    written.name = "B"
    written.save()  # what this copy did not change is not checked


@pytest.mark.skipif(connection.vendor == "mysql", reason="MariaDB takes them for the same.")
def test_twins_have_keys_of_their_own() -> None:
    shops = [Shop.objects.create(code=code) for code in ("Anna", "anna", "ánna", "anna ", "ann_", "ann%")]
    made = [keys.create(name=shop.code.strip(), owner=shop) for shop in shops]
    assert [list(APIKey.objects.owned_by(shop)) for shop in shops] == [[key] for key in made]
    assert list(APIKey.objects.of_owner("", "ownership.shop:none")) == []
    assert len(APIKey.objects.of_owner(made[0].owner_ref, made[1].owner_ref)) == 2


def test_keys_of_twins_that_are_owners_elsewhere_are_told_apart() -> None:
    """Where the keys are in MariaDB, and the owners not."""
    refs = [f"ownership.shop:{code}" for code in ("Anna", "anna", "ánna", "anna ")]
    for ref in refs:
        keys.create(name="A", owner_ref=ref)
    assert [[key.owner_ref for key in APIKey.objects.of_owner(ref)] for ref in refs] == [[ref] for ref in refs]


def test_a_proxy_may_be_listed(settings: Settings) -> None:
    settings.KEYS = {**settings.KEYS, "OWNERS": ["ownership.OpenShop"]}
    key = keys.create(name="A", owner=Shop.objects.create(code="a"))
    assert (key.owner_ref, type(APIKey.objects.get(pk=key.pk).owner)) == ("ownership.shop:a", OpenShop)
    Shop.objects.all().delete()
    assert not APIKey.objects.get(pk=key.pk).is_active


def test_a_child_may_be_listed_without_its_parent(settings: Settings) -> None:
    settings.KEYS = {**settings.KEYS, "OWNERS": ["ownership.Hotel"]}
    hotel = Hotel.objects.create(pk=4)
    key = keys.create(name="A", owner=hotel)
    assert (key.owner_ref, objection_to(key, None)) == ("ownership.hotel:4", "")
    with pytest.raises(ValidationError, match=r"ownership\.Building is not in"):
        keys.create(name="A", owner=Building.objects.get())
    hotel.delete(keep_parents=True)
    assert not APIKey.objects.get(pk=key.pk).is_active


def test_what_the_manager_hides_is_no_owner() -> None:
    project = Project.objects.create()
    key = keys.create(name="A", owner=project)
    Project.objects.update(is_deleted=True)
    found = APIKey.objects.get(pk=key.pk)
    assert (found.owner, objection_to(found, None)) == (None, "owner")
    Project._base_manager.update(is_deleted=False)
    assert objection_to(APIKey.objects.get(pk=key.pk), None) == ""


class TestGiving:
    """An owner is given by every way in which a key is written."""

    def test_ways(self) -> None:
        anna, ben = User.objects.create(username="anna"), User.objects.create(username="ben")
        ref = f"auth.user:{anna.pk}"
        given_to_anna: dict[str, Any] = {"owner": anna}
        given = [
            keys.create(name="A", owner=anna),
            keys.get_or_create(name="B", defaults={"owner": anna})[0],
            keys.update_or_create(name="B", defaults={"owner": anna})[0],
            *APIKey.objects.bulk_create([APIKey(name="C", **given_to_anna), APIKey(name="D", owner_ref=ref)]),
            lifecycle.create("E", owner=anna),
        ]
        changed = keys.create(name="F", owner=ben)
        changed.owner = anna
        changed.save()
        many = keys.create(name="G")
        APIKey.objects.filter(name="G").update(owner_ref=ref)
        bulk = keys.create(name="H")
        bulk.owner = anna
        APIKey.objects.bulk_update([bulk], ["owner_ref"])
        assert {*APIKey.objects.owned_by(anna)} == {*given, changed, many, bulk}
        assert AuditEvent.objects.filter(owner=ref).count() == 8
        told = AuditEvent.objects.filter(event="changed").order_by("id").values_list("changes", flat=True)
        assert list(told) == [{"owner_ref": [f"auth.user:{ben.pk}", ref]}, *[{"owner_ref": ["", ref]}] * 2]
        many.refresh_from_db()
        many.owner = None
        many.save()
        assert (APIKey.objects.get(name="G").owner_ref, objection_to(many, None)) == ("", "")

    def test_a_new_keys_event_names_its_owner_and_its_note(self) -> None:
        key = keys.create(name="A", owner=User.objects.create(pk=7), note="Ask\n\tAnna.")
        event = AuditEvent.objects.get()
        assert event.changes["owner_ref"] == [None, "auth.user:7"]
        assert event.changes["note"] == [None, "Ask\\n\\tAnna."]
        assert (event.owner, APIKey.objects.get(pk=key.pk).note) == ("auth.user:7", "Ask\n\tAnna.")

    def test_a_fixture_keeps_owner_and_note(self, tmp_path: Any) -> None:
        key = keys.create(name="A", owner=User.objects.create(pk=7), note="Ask Anna.")
        file = tmp_path / "keys.json"
        call_command("dumpdata", "keys.APIKey", output=str(file))
        APIKey.objects.all().delete()
        call_command("loaddata", str(file), verbosity=0)
        loaded = APIKey.objects.get()
        assert (loaded.pk, loaded.owner_ref, loaded.note) == (key.pk, "auth.user:7", "Ask Anna.")

    def test_create_refuses_one_whose_key_would_be_refused(self, settings: Settings) -> None:
        with pytest.raises(ValidationError, match="is not active, or may have no keys"):
            lifecycle.create("A", owner=User.objects.create(pk=7, is_active=False))
        assert not APIKey.objects.exists()


class TestReading:
    def test_it_is_read_once_and_forgotten_with_the_row(self) -> None:
        user = User.objects.create(pk=7, username="anna")
        key = APIKey.objects.get(pk=keys.create(name="A", owner=user).pk)
        with CaptureQueriesContext(connection) as queries:
            assert key.owner is key.owner
        assert len(queries) == 1
        User.objects.update(username="ben")
        key.refresh_from_db()
        assert key.owner.username == "ben"  # type: ignore[union-attr]
        key.owner_ref = "auth.user:8"
        assert key.owner is None

    def test_copies_and_pickles_hold_no_row_of_the_owner(self) -> None:
        key = keys.create(name="A", owner=User.objects.create(pk=7, username="anna"))
        assert key.owner is not None
        for other in (copy.copy(key), copy.deepcopy(key), pickle.loads(pickle.dumps(key))):  # noqa: S301
            assert "found_owner" not in vars(other)
            assert other.owner == key.owner
        assert b"anna" not in pickle.dumps(key)

    def test_a_look_up_leaves_the_note_in_the_table(self) -> None:
        from keys.keyrings import DatabaseKeyring

        made = keys.create(name="A", note="Ask Anna.")
        key = DatabaseKeyring().find(made.key)
        assert key is not None
        assert key.get_deferred_fields() == {"note", "typed_by_hand"}
        assert (key.note, key.typed_by_hand) == ("Ask Anna.", False)
        assert key.loaded == APIKey.objects.get().loaded
        key.note = "Ask Ben."
        key.save()
        assert APIKey.objects.get().note == "Ask Ben."

    def test_without_owners_the_column_is_all_there_is(self, settings: Settings) -> None:
        settings.KEYS = {name: value for name, value in settings.KEYS.items() if name != "OWNERS"}
        key = keys.create(name="A")
        assert (key.owner, owners.are_on(), dict(owners.models())) == (None, False, {})
        assert sorted(AuditEvent.objects.get().changes) == ["is_active", "name", "scopes"]
        with pytest.raises(ValidationError, match="no key has an owner here"):
            keys.create(name="A", owner_ref="auth.user:7")


class TestModelsThatCannotOwn:
    @pytest.mark.parametrize(
        ("label", "sentence"),
        [
            ("auth.Nosuch", "there is no such model."),
            ("nosuch.User", "no app in INSTALLED_APPS has the label 'nosuch'."),
            ("ownership.Nobody", "there is no such model."),
            ("ownership.Seat", "its primary key is a composite one, which has no text."),
            ("ownership.Blob", "its primary key is binary, which has no text."),
            ("keys.APIKey", "it is the key itself."),
            ("ownership.OpenShop", "another model of the same rows."),
        ],
    )
    def test_they_are_a_sentence(self, settings: Settings, label: str, sentence: str) -> None:
        user = User.objects.create(pk=7)
        key, free = keys.create(name="A", owner=user), keys.create(name="B")
        settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User", "ownership.Shop", label]}
        with pytest.raises(ImproperlyConfigured, match=f"KEYS\\[\"OWNERS\"\\] names '{label}'.*{sentence}"):
            keys.create(name="C", owner=user)
        # Nobody can say whose key it is; that of nobody is not touched.
        with pytest.raises(owners.OwnerUnknownError):
            objection_to(APIKey.objects.get(pk=key.pk), None)
        assert objection_to(free, None) == ""
        user.delete()

    def test_the_same_model_twice_is_once(self, settings: Settings) -> None:
        settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User", "auth.user"]}
        assert [*owners.models()] == ["auth.user"]


class TestRotation:
    def test_a_successor_has_the_owner_and_the_note(self) -> None:
        key = keys.create(name="A", owner=User.objects.create(pk=7), note="Ask Anna.")
        successor = key.rotate(reason="ticket 5")
        assert (successor.owner_ref, successor.note) == ("auth.user:7", "Ask Anna.")
        assert AuditEvent.objects.get(event="rotated").detail.endswith("; ticket 5")

    @pytest.mark.parametrize("how", ["inactive", "gone", "unlisted", "not allowed"])
    def test_the_key_of_a_refused_owner_has_none(self, settings: Settings, how: str) -> None:
        key = keys.create(name="A", owner=User.objects.create(pk=7, is_active=how != "inactive"))
        if how == "gone":
            User.objects.all()._raw_delete("default")
        elif how == "unlisted":
            settings.KEYS = {**settings.KEYS, "OWNERS": []}
        elif how == "not allowed":
            settings.KEYS = {**settings.KEYS, "OWNER_IS_ALLOWED": "tests.ownership.rules.no"}
        with pytest.raises(RotationError, match="may have no keys"):
            key.rotate()
        assert APIKey.objects.count() == 1

    def test_while_nobody_can_say_there_is_none(self, settings: Settings) -> None:
        key = keys.create(name="A", owner=User.objects.create(pk=7))
        settings.KEYS = {**settings.KEYS, "OWNER_IS_ALLOWED": "tests.ownership.rules.fails"}
        with pytest.raises(owners.OwnerUnknownError):
            key.rotate()
        assert APIKey.objects.count() == 1


class TestTexts:
    """A note and a reason: for people, and without the key."""

    @pytest.mark.parametrize("note", ["a\x00b", "a\x1b[31m", "\x7f", "\x85", "\ud800", "x" * 4097])
    def test_a_note_holds_no_control_characters(self, note: str) -> None:
        key = keys.create(name="A")
        with pytest.raises(ValidationError) as raised:
            keys.create(name="B", note=note)
        assert [*raised.value.message_dict] == ["note"]
        key.note = note
        with pytest.raises(ValidationError):
            key.save()
        with pytest.raises(ValidationError):
            APIKey.objects.update(note=note)
        assert APIKey.objects.values_list("note", flat=True).get() == ""

    def test_a_note_has_lines_and_any_writing(self) -> None:
        note = "Ask Anna,\r\nticket 5:\n\thttps://example.com/5\nشكرً \u200f😀" + "x" * 4000
        assert APIKey.objects.get(pk=keys.create(name="A", note=note).pk).note == note

    @pytest.mark.parametrize("field", ["note", "name"])
    def test_nobody_writes_the_key_down(self, field: str) -> None:
        made = APIKey(name="A")
        setattr(made, field, f"It is {made.key}!")
        with pytest.raises(ValidationError, match="the key itself") as raised:
            made.save()
        assert made.key not in str(raised.value)
        assert [*raised.value.message_dict] == [field]
        key = keys.create(name="A")
        for text in (key.key, f"X-API-Key: {key.key.upper().lower()}"):
            loaded = APIKey.objects.get(pk=key.pk)
            setattr(loaded, field, text)
            for write in (
                loaded.full_clean, loaded.save, partial(APIKey.objects.bulk_update, [loaded], [field]),
                partial(APIKey.objects.update, **{field: text}),
            ):  # fmt: skip
                with pytest.raises(ValidationError, match="the key itself"):
                    write()
        # Of another text of that form nobody knows that it is a key: it may name a commit.
        APIKey.objects.update(**{field: "0123456789" * 4})
        assert key.key not in str(list(AuditEvent.objects.values_list("changes", "detail", "key_name")))

    @pytest.mark.parametrize("is_fresh", [True, False])
    def test_a_reason_is_masked_and_cut_behind_what_machines_read(self, is_fresh: bool) -> None:
        key = keys.create(name="A")
        token = str(key.key)
        other = key if is_fresh else APIKey.objects.get(pk=key.pk)
        successor = other.rotate(reason=f"leaked:\n{token} " + "x" * 999)
        other.deactivate(f" {token} was seen ")
        rotated, ended = AuditEvent.objects.filter(event__in=["rotated", "deactivated"]).order_by("id")
        assert rotated.detail.startswith(f"successor {successor.prefix}, accepted until ")
        assert "; leaked:\\n******** xxx" in rotated.detail
        assert (len(rotated.detail), ended.detail) == (255, "******** was seen")


def test_seals_cover_the_owner_and_old_ones_do_not(seal_key: str) -> None:
    from keys.audit import sealing, verifying
    from keys.audit.seal_formats import FORMATS
    from tests.support.sealed_logs import FULL, problems, write

    new = FORMATS.pop(2)
    try:
        old = write({**FULL, "owner": ""})
        list(sealing.seal())
    finally:
        FORMATS[2] = new
    ids = write(FULL)
    list(sealing.seal())
    assert verifying.verify().problems == []
    AuditEvent.objects.filter(pk__in=[*old, *ids]).update(owner="auth.user:8")
    findings = verifying.verify()
    assert problems(findings) == [("altered", 2, ids[0])]
    assert findings.filled_later.count == 1


def test_the_log_takes_the_rows_of_a_server_of_the_release_before() -> None:
    """It goes on writing after the migration, until it is restarted."""
    at = connection.ops.adapt_datetimefield_value(timezone.now())
    tables: list[tuple[Any, set[str], dict[str, Any]]] = [
        (
            APIKey,
            {"owner_ref", "note", "typed_by_hand"},
            {"scopes": "[]", "allowed_ips": "[]", "is_active": True, "created_at": at},
        ),
        (AuditEvent, {"owner"}, {"at": at, "count": 1}),
    ]
    for model, new, values in tables:
        old = [field for field in model._meta.concrete_fields if field.attname not in {"id", *new}]
        fields = [field for field in old if not field.null]
        columns = ", ".join(connection.ops.quote_name(str(field.column)) for field in fields)
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {model._meta.db_table} ({columns}) VALUES ({', '.join(['%s'] * len(fields))})",
                [values.get(field.attname, "x") for field in fields],
            )
    assert [*AuditEvent.objects.values_list("owner", flat=True)] == [""]
    assert [*APIKey.objects.values_list("owner_ref", "note")] == [("", "")]


class Slotted:
    """A holder of a keyring of the project's own, with no room for anything else."""

    __slots__ = ("name", "owner_ref", "prefix", "scopes")

    def __init__(self, owner_ref: str) -> None:
        self.name, self.prefix, self.scopes, self.owner_ref = "Old", "", (), owner_ref


def test_holders_of_any_keyring_may_have_owners() -> None:
    free, owned, ignorant = Slotted(""), Slotted("auth.user:7"), SimpleNamespace(name="Old", prefix="", scopes=())
    holders: list[Any] = [free, owned, ignorant]
    assert [objection_to(holder, None) for holder in holders] == ["", "owner", ""]
    User.objects.create(pk=7)
    assert [objection_to(holder, None) for holder in holders] == ["", "", ""]
