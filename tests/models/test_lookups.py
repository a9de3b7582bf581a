"""Looking keys up: the token finds its row in both forms, the stored digest finds nothing."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import FieldError, ValidationError
from django.db import IntegrityError, transaction
from django.db.models import CharField, F, QuerySet
from django.db.models.functions import Length
from django.test import Client, override_settings
from django.test.utils import register_lookup

from keys import tokens
from keys.models import APIKey, AuditEvent
from keys.models.fields import Digest
from keys.tokens import Secret
from tests.support.callers import opens
from tests.support.keys import column

pytestmark = pytest.mark.django_db

TOKEN = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40


class TestLookingUp:
    @pytest.fixture
    def key(self) -> APIKey:
        APIKey.objects.create(name="another")
        return APIKey.objects.create(name="A", key=TOKEN)

    @staticmethod
    def names(keys: QuerySet[APIKey]) -> list[str]:
        return [key.name for key in keys.order_by("name")]

    def test_the_token_finds_its_row(self, key: APIKey) -> None:
        assert APIKey.objects.filter(key=TOKEN, is_active=True).first() == key
        assert APIKey.objects.get(key__exact=Secret(TOKEN)) == key
        assert self.names(APIKey.objects.filter(key__in=[TOKEN, OTHER])) == ["A"]
        assert self.names(APIKey.objects.exclude(key=TOKEN)) == ["another"]
        assert self.names(APIKey.objects.filter(key__isnull=True)) == []
        assert APIKey.objects.in_bulk([TOKEN], field_name="key") == {tokens.digest(TOKEN): key}

    def test_the_stored_digest_finds_nothing(self, key: APIKey) -> None:
        stored = APIKey.objects.get(pk=key.pk).key
        assert isinstance(stored, Digest)
        for digest in (stored, str(stored)):
            assert not APIKey.objects.filter(key=digest).exists()
            assert not APIKey.objects.filter(key__in=[digest]).exists()
            assert not opens(digest)

    def test_a_digest_that_is_assigned_as_text_is_a_token_like_any_other(self, key: APIKey) -> None:
        text = str(APIKey.objects.get(pk=key.pk).key)
        thief = APIKey.objects.create(name="thief", key=text)
        assert column(thief) == tokens.digest(text) != column(key)
        thief.full_clean()
        assert isinstance(thief.key, Secret)

    def test_a_row_may_be_found_by_another_row(self, key: APIKey) -> None:
        assert self.names(APIKey.objects.filter(key__in=APIKey.objects.filter(name="A").values("key"))) == ["A"]
        assert self.names(APIKey.objects.filter(key=F("key"))) == ["A", "another"]

    @pytest.mark.parametrize(
        "lookup", ["startswith", "istartswith", "contains", "endswith", "iexact", "regex", "gt", "lte", "range"]
    )
    def test_a_digest_cannot_be_searched_piece_by_piece(self, lookup: str) -> None:
        with pytest.raises(FieldError):
            APIKey.objects.filter(**{f"key__{lookup}": "sha256$0"})

    def test_what_is_registered_for_text_is_none_of_its_business(self) -> None:
        with register_lookup(CharField, Length), pytest.raises(FieldError):
            APIKey.objects.filter(key__length=71)


class TestTwoDigestsOfOneSecret:
    """A key that came as a SHA-512, and somebody who types the same key: that is no second key."""

    @pytest.fixture
    def came(self) -> APIKey:
        APIKey.objects.create(name="another")
        return APIKey.objects.create(name="came", key=Digest(tokens.digests(TOKEN)[1]))

    @pytest.mark.parametrize(
        "make",
        [
            lambda: APIKey.objects.create(name="twin", key=TOKEN),
            lambda: APIKey.objects.bulk_create([APIKey(name="free"), APIKey(name="twin", key=TOKEN)]),
            lambda: APIKey.objects.filter(name="another").update(key=Secret(TOKEN)),
            lambda: APIKey.objects.bulk_update([renewed("another", TOKEN)], ["key"]),
            lambda: renewed("another", TOKEN).save(),
        ],
        ids=["create", "bulk_create", "update", "bulk_update", "save"],
    )
    def test_makes_no_twin(self, came: APIKey, make: Callable[[], Any]) -> None:
        with pytest.raises(IntegrityError, match="here already"), transaction.atomic():
            make()
        assert self.names() == ["another", "came"]
        assert APIKey.objects.get(key=TOKEN) == came
        with pytest.raises(ValidationError, match="already exists"):
            APIKey(name="twin", key=TOKEN).full_clean()

    def test_the_key_itself_may_be_given_our_digest(self, came: APIKey) -> None:
        renewed("came", TOKEN).save()
        assert column(came) == tokens.digest(TOKEN)
        assert opens(TOKEN)

    def test_of_two_that_were_imported_ours_answers_and_ends_them_both(self, came: APIKey) -> None:
        """Whoever imports digests cannot know that two are of one secret."""
        ours = APIKey.objects.create(name="ours", key=Digest(tokens.digest(TOKEN)))
        assert opens(TOKEN)
        ours.deactivate()
        assert not opens(TOKEN)
        uses = AuditEvent.objects.exclude(path="").values_list("event", "key_name")
        assert [*uses.order_by("id")] == [("used", "ours"), ("refused", "ours")]

    @staticmethod
    def names() -> list[str]:
        return [*APIKey.objects.order_by("name").values_list("name", flat=True)]


def renewed(name: str, token: str) -> APIKey:
    key = APIKey.objects.get(name=name)
    key.key = token
    return key


class TestPrefix:
    @pytest.fixture(autouse=True)
    def settings_with_prefix(self) -> Any:
        with override_settings(KEYS={"PREFIX": "auth_live_"}):
            yield

    def test_it_is_handed_out_and_both_forms_open(self) -> None:
        key = APIKey.objects.create(name="A")
        assert re.fullmatch("auth_live_[0-9a-f]{40}", key.key)
        bare = key.key.removeprefix("auth_live_")
        assert opens(key.key)
        assert opens(bare)
        assert APIKey.objects.get(key=key.key) == APIKey.objects.get(key=bare) == key
        headers = {"X-API-Key": bare, "Authorization": f"Api-Key {key.key}"}
        assert Client().get("/guarded/", headers=headers).status_code == 200

    def test_the_column_holds_hexadecimal_characters(self) -> None:
        key = APIKey.objects.create(name="A")
        assert column(key, "prefix") == key.key[10:18]
        assert APIKey.objects.create(name="B", key=TOKEN).prefix == TOKEN[:8]
        assert APIKey.objects.bulk_create([APIKey(name="C", key="auth_live_" + OTHER)])[0].prefix == OTHER[:8]

    def test_a_successor_has_it(self) -> None:
        assert APIKey.objects.create(name="A", key=TOKEN).rotate().key.startswith("auth_live_")

    def test_keys_outlive_its_coming_and_going(self) -> None:
        key = APIKey.objects.create(name="A")
        with override_settings(KEYS={}):
            assert opens(key.key.removeprefix("auth_live_"))
            assert not opens(key.key)
            older = APIKey.objects.create(name="B")
        assert opens(older.key)

    @pytest.mark.parametrize("number", [0, 1], ids=["sha256", "sha512"])
    def test_a_key_of_another_system_that_begins_with_it_was_digested_as_a_whole(self, number: int) -> None:
        whole = f"auth_live_{TOKEN}"
        key = APIKey.objects.create(name="came", key=Digest(tokens.digests(whole)[number]))
        assert opens(whole)
        assert not opens(TOKEN)
        assert APIKey.objects.get(key=whole) == APIKey.objects.get(key__in=[OTHER, whole]) == key
        with pytest.raises(IntegrityError, match="here already"), transaction.atomic():
            APIKey.objects.create(name="twin", key=whole)
        key.deactivate()
        assert not opens(whole)

    def test_a_key_that_begins_with_it_was_here_before_it(self) -> None:
        with override_settings(KEYS={}):
            key = APIKey.objects.create(name="came", key=f"auth_live_{TOKEN}")
        assert opens(key.key)

    def test_it_is_not_stripped_from_a_typed_key(self) -> None:
        APIKey.objects.create(name="A", key="auth_live_hunter2-hunter2")
        assert opens("auth_live_hunter2-hunter2")
        assert not opens("hunter2-hunter2")
