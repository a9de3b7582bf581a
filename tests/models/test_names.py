"""Which names a key may have."""

from collections.abc import Callable

import pytest
from django.core.exceptions import ValidationError
from django.db.models import F, Value
from django.db.models.functions import Concat
from django.test import Client

from keys.models import APIKey, AuditEvent
from tests.support.admin import ADD, form_of, page_of
from tests.support.commands import run
from tests.support.keys import change, make_key, named_before

pytestmark = pytest.mark.django_db

CONTROLS = ["\x00", "\t", "\n", "\x1b", "\x7f", "\x85", "\x9b", "\ud800"]


def bulk_updated(key: APIKey, name: str) -> None:
    key.name = name
    APIKey.objects.bulk_update([key], ["name"])


WRITERS: dict[str, Callable[[APIKey, str], object]] = {
    "create": lambda key, name: APIKey.objects.create(name=name),
    "bulk_create": lambda key, name: APIKey.objects.bulk_create([APIKey(name="Good"), APIKey(name=name)]),
    "save": lambda key, name: change(key, name=name),
    "update": lambda key, name: APIKey.objects.update(name=name),
    "bulk_update": bulk_updated,
}


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_name_with_a_control_character_is_refused(write: Callable[[APIKey, str], object], control: str) -> None:
    key = make_key()
    with pytest.raises(ValidationError, match="control characters"):
        write(key, f"TTS{control}Backend")
    assert [key.name for key in APIKey.objects.all()] == ["TTS-Backend"]
    assert AuditEvent.objects.count() == 1


def test_so_is_one_that_the_database_puts_together() -> None:
    make_key()
    with pytest.raises(ValidationError, match="control characters"):
        APIKey.objects.update(name=Concat(F("name"), Value("\x1b[2J")))
    assert APIKey.objects.get().name == "TTS-Backend"


@pytest.mark.parametrize("control", CONTROLS[1:-1], ids=ascii)
def test_the_command_says_so_in_a_sentence(control: str) -> None:
    made = run("keys_create", f"TTS{control}Backend")
    assert (made.status, made.out) == (1, "")
    assert made.err == "name: A name holds no control characters, such as a line break."


def test_the_admin_says_so_beside_the_field(admin_client: Client) -> None:
    response = admin_client.post(ADD, {**form_of(admin_client.get(ADD)), "name": "TTS\x1b[2J"})
    assert "control characters" in str(response.context["adminform"].form.errors["name"])
    key = make_key()
    page = page_of(key)
    response = admin_client.post(page, {**form_of(admin_client.get(page)), "name": "TTS\nBackend"})
    assert "control characters" in str(response.context["adminform"].form.errors["name"])
    assert [key.name for key in APIKey.objects.all()] == ["TTS-Backend"]


@pytest.mark.parametrize(
    "name",
    ["Grüße 😀", "👩\u200d👧", "क\u200cख", "山田\u3000太郎", "a\u0301", "soft\u00adhyphen", "\u202egnp", "%s \\n"],
    ids=ascii,
)
def test_every_other_name_is_kept_as_it_is(name: str) -> None:
    assert APIKey.objects.get(pk=make_key(name).pk).name == name


def test_a_key_that_got_its_name_before_can_be_rotated_renamed_and_ended() -> None:
    key = named_before("TTS\x1b")
    successor = key.rotate()
    assert successor.name == "TTS\x1b"
    change(key, rate="5/min")
    key.deactivate()
    change(successor, name="TTS")
    assert list(AuditEvent.objects.order_by("id").values_list("event", "key_name"))[1:] == [
        ("created", r"TTS\x1b"), ("rotated", r"TTS\x1b"), ("changed", r"TTS\x1b"), ("deactivated", r"TTS\x1b"),
        ("changed", "TTS"),
    ]  # fmt: skip
