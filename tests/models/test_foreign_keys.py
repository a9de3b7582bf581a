"""Keys of another form than ours: what is shown of them, and that no text beside them holds them."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.test import Client

from keys import tokens
from keys.actor import acting_as
from keys.models import APIKey, AuditEvent
from keys.models.fields import Digest
from tests.support.keys import change, column, pickled

pytestmark = pytest.mark.django_db

STRIPE, TYPED, OTHER = "sk_live_4eC39HqLyjWDarjtT1zdp7dc", 's3cret, as "we" say', "Zk4vTq9Xw2LmR7pBc3Yd"
FORMS = [(STRIPE, 0), (STRIPE, 1), (TYPED, 1), ("=HYPERLINK(1)", 0)]  # and the number of the digest
SHOWN = {STRIPE: ("sk_live_4eC39HqL", False), TYPED: ("", True), OTHER: ("", False), "a.b.c=d": ("", True)}


def imported(token: str, number: int = 0, **fields: Any) -> APIKey:
    """Make a key of which nothing but the digest is known."""
    APIKey.objects.create(key=Digest(tokens.digests(token)[number]), **{"name": "Shop", **fields})
    AuditEvent.objects.all().delete()
    return APIKey.objects.get()


def whole_log() -> str:
    return json.dumps([str(row) for row in AuditEvent.objects.values()])


@pytest.mark.parametrize(("token", "number"), FORMS)
class TestAPastedKey:
    @pytest.mark.parametrize(
        "write",
        [
            lambda key, text: change(key, note=text),
            lambda key, text: change(key, name=text),
            lambda key, text: APIKey.objects.update(note=text),
            lambda key, text: APIKey.objects.bulk_update([change_without_saving(key, note=text)], ["note"]),
            lambda key, text: change_without_saving(key, note=text).full_clean(),
        ],
    )
    def test_is_refused(self, token: str, number: int, write: Callable[[APIKey, str], Any]) -> None:
        key = imported(token, number)
        for text in (token, f"the key is “{token}”.", f"Authorization: Bearer {token}\t(ask Anna)"[:100]):
            if write.__code__.co_names[0] == "change" and "\t" in text:
                text = text.replace("\t", " ")
            with pytest.raises(ValidationError) as refused:
                write(key, text)
            assert token not in str(refused.value)
            key.refresh_from_db()
        assert (key.name, key.note) == ("Shop", "")

    def test_is_masked_wherever_an_event_tells_of_it(self, token: str, number: int) -> None:
        key = imported(token, number)
        with acting_as(f"cron: {token}"):
            APIKey.rows.filter(pk=key.pk).update(name=f"Shop ({token})", note=f"'{token}', " + "x" * 100_000)
            APIKey.objects.get().deactivate(f"leaked: {token}!")
            APIKey.objects.get().delete()
        assert AuditEvent.objects.count() == 3
        assert token not in whole_log().replace("\\", "")
        assert {*AuditEvent.objects.values_list("actor", flat=True)} == {"cron: ********"}


def change_without_saving(key: APIKey, **values: Any) -> APIKey:
    for name, value in values.items():
        setattr(key, name, value)
    return key


def test_another_key_may_be_named_by_any_text() -> None:
    imported(STRIPE)
    other = APIKey.objects.create(name="sk_live_4eC39HqL", note=f"In place of the old one, {OTHER}.")
    assert other.note.endswith(f"{OTHER}.")


@pytest.mark.parametrize("how", ["save", "update", "bulk_update"])
def test_a_key_that_its_note_holds_already_is_refused(how: str) -> None:
    key = APIKey.objects.create(name="A", note=f"From now on {STRIPE}.")
    with pytest.raises(ValidationError):
        CHANGES[how](key, STRIPE)
    assert not APIKey.objects.filter(key=STRIPE).exists()


def save(key: APIKey, token: str) -> None:
    key.key = token
    key.save()


def save_the_key_alone(key: APIKey, token: str) -> None:
    key.key = token
    key.save(update_fields=["key"])


def bulk_update(key: APIKey, token: str) -> None:
    key.key = token
    APIKey.objects.bulk_update([key], ["key"])


CHANGES: dict[str, Callable[[APIKey, str], Any]] = {
    "save": save,
    "save the key alone": save_the_key_alone,
    "update": lambda key, token: APIKey.objects.filter(pk=key.pk).update(key=token),
    "bulk_update": bulk_update,
}


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("is_loaded", [True, False])
def test_what_is_told_of_a_key_is_right_after_another_took_its_place(how: str, is_loaded: bool) -> None:
    key = APIKey.objects.create(name="A")
    for token, told in [*SHOWN.items(), (STRIPE, SHOWN[STRIPE])]:
        key = APIKey.objects.get() if is_loaded else key
        CHANGES[how](key, token)
        assert (column(key, "prefix"), bool(column(key, "typed_by_hand"))) == told
        assert Client().get("/guarded/", headers={"X-API-Key": token}).status_code == 200
        event = AuditEvent.objects.filter(event="changed").latest("id")
        assert event.detail == "key"
        key.refresh_from_db()


@pytest.mark.parametrize("token", SHOWN)
def test_and_wherever_a_new_one_comes_from(token: str, tmp_path: Path) -> None:
    def told() -> set[tuple[str, bool]]:
        return {*APIKey.objects.values_list("prefix", "typed_by_hand")}

    made = APIKey.objects.create(name="A", key=token)
    for one in (made, pickled(made), copy.copy(made), copy.deepcopy(made)):
        assert (one.prefix, one.typed_by_hand) == SHOWN[token]
    call_command("dumpdata", "keys.apikey", output=str(tmp_path / "dumped.json"))
    assert token not in (tmp_path / "dumped.json").read_text()
    APIKey.objects.all().delete()
    call_command("loaddata", str(tmp_path / "dumped.json"), verbosity=0)
    assert told() == {SHOWN[token]}
    APIKey.objects.all().delete()
    row = {"model": "keys.apikey", "fields": {"name": "A", "key": token, "created_at": "2026-01-31T12:00:00Z"}}
    (tmp_path / "written.json").write_text(json.dumps([row]))
    call_command("loaddata", str(tmp_path / "written.json"), verbosity=0)
    assert told() == {SHOWN[token]}
    APIKey.objects.all().delete()
    APIKey.objects.bulk_create([APIKey(name="A", key=token)])
    assert told() == {SHOWN[token]}


def test_of_a_digest_nobody_says_that_it_may_be_guessed() -> None:
    key = imported("hunter2")
    assert (key.prefix, key.typed_by_hand, str(key)) == ("", False, "Shop")
