"""What packages read that listen to every model: auditlog, simple-history, reversion and their like."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core import serializers
from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction
from django.db.models import signals
from django.forms import model_to_dict
from django.test import Client

from keys.models import APIKey
from keys.signals import key_changed
from tests.support.admin import ADD, form_of, text_of
from tests.support.commands import run

TOKEN = "0123456789abcdef0123456789abcdef01234567"

pytestmark = pytest.mark.django_db

SIGNALS = [signals.pre_save, signals.post_save, signals.pre_delete, signals.post_delete, key_changed]
READERS: list[Callable[[models.Model], Any]] = [
    lambda key: getattr(key, "key"),  # noqa: B009  as they do, by the name of the field
    lambda key: key.serializable_value("key"),
    lambda key: [field.value_from_object(key) for field in key._meta.concrete_fields],
    lambda key: [field.value_to_string(key) for field in key._meta.concrete_fields],
    lambda key: [str(field.pre_save(key, False)) for field in key._meta.concrete_fields if field.name == "key"],
    lambda key: {name: str(value) for name, value in vars(key).items()},
    lambda key: serializers.serialize("json", [key]),
    model_to_dict,
]


@pytest.fixture
def written_down() -> Iterator[list[str]]:
    """What a package wrote down that reads whatever signal hands it, in every way."""
    read: list[str] = []

    def listen(sender: Any, **kwargs: Any) -> None:
        key = kwargs.get("instance") or kwargs["key"]
        if isinstance(key, APIKey):
            read.extend(str(reader(key)) for reader in READERS)
            transaction.on_commit(lambda: read.append(str(key.key)))

    for signal in SIGNALS:
        signal.connect(listen)
    yield read
    for signal in SIGNALS:
        signal.disconnect(listen)


def assert_without(secret: str, texts: list[str]) -> None:
    assert len(secret) == 40
    assert texts
    assert not [text for text in texts if secret in text]


@pytest.mark.django_db(transaction=True)
class TestSignals:
    def test_a_new_key(self, written_down: list[str]) -> None:
        key = APIKey.objects.create(name="A")
        assert_without(key.key, written_down)
        assert APIKey.objects.get(key=key.key).prefix == key.key[:8] == key.prefix

    def test_what_its_maker_saves_and_deletes_later(self, written_down: list[str]) -> None:
        key = APIKey.objects.create(name="A")
        secret = str(key.key)
        written_down.clear()
        key.is_active = False
        key.save()
        assert key.key == secret
        key.delete()
        assert_without(secret, written_down)
        assert key.key == secret

    def test_a_token_of_ones_own(self, written_down: list[str]) -> None:
        key = APIKey.objects.create(name="A")
        key.key = TOKEN
        key.save()
        assert_without(TOKEN, written_down)
        assert (key.key, key.prefix) == (TOKEN, TOKEN[:8])
        assert APIKey.objects.filter(key=TOKEN, prefix=TOKEN[:8]).exists()

    def test_a_rotation(self, written_down: list[str]) -> None:
        key = APIKey.objects.create(name="A")
        old, successor = str(key.key), key.rotate()
        assert_without(successor.key, written_down)
        assert_without(old, written_down)
        assert APIKey.objects.get(key=successor.key) == successor

    def test_many_at_once(self, written_down: list[str]) -> None:
        first, second = APIKey.objects.bulk_create([APIKey(name="A"), APIKey(name="B")])
        assert_without(first.key, written_down)
        assert_without(second.key, written_down)
        assert {first.prefix, second.prefix} == {*APIKey.objects.values_list("prefix", flat=True)}

    def test_the_command(self, written_down: list[str]) -> None:
        secret = run("keys_create", "A").out.strip()
        assert_without(secret, written_down)

    def test_the_admin(self, written_down: list[str], admin_client: Client) -> None:
        answer = admin_client.post(ADD, {**form_of(admin_client.get(ADD)), "name": "A"})
        (secret,) = set(re.findall(r"\b[0-9a-f]{40}\b", text_of(answer)))
        assert_without(secret, written_down)


def test_a_failure_gives_the_secret_back() -> None:
    key = APIKey.objects.create(name="A")
    twin = APIKey(name="B", key=str(key.key))
    with pytest.raises(IntegrityError), transaction.atomic():
        twin.save()
    assert twin.key == key.key


@pytest.mark.parametrize("wrong", ["", "é", "a\n", "x" * 129, 7])
def test_what_can_be_no_key_is_not_stored_as_one(wrong: Any) -> None:
    with pytest.raises(ValidationError, match="1 to 128"):
        APIKey.objects.create(name="A", key=wrong)
    with pytest.raises(ValidationError, match="1 to 128"):
        APIKey.objects.bulk_create([APIKey(name="A", key=wrong)])
    assert not APIKey.objects.exists()


def test_a_receiver_may_choose_another_key() -> None:
    def choose(instance: APIKey, **kwargs: Any) -> None:
        instance.key = TOKEN

    signals.pre_save.connect(choose, sender=APIKey)
    try:
        key = APIKey.objects.create(name="A")
    finally:
        signals.pre_save.disconnect(choose, sender=APIKey)
    assert key.key == TOKEN
    assert APIKey.objects.filter(key=TOKEN, prefix=TOKEN[:8]).exists()
