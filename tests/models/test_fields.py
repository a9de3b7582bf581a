"""`KeyField`: what goes in is hashed, what comes out is the digest."""

import copy
import pickle
import re
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import F
from django.test import override_settings

from keys import tokens
from keys.models import APIKey
from keys.models.fields import KeyField
from tests.support.callers import opens
from tests.support.keys import column, in_table, pickled

pytestmark = pytest.mark.django_db

TOKEN = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40


class TestGoingIn:
    def test_create_makes_a_token_and_stores_its_digest(self) -> None:
        key = APIKey.objects.create(name="A")
        assert re.fullmatch("[0-9a-f]{40}", key.key)
        assert column(key) == tokens.digest(key.key)
        assert column(key, "prefix") == key.prefix == key.key[:8]

    def test_save_of_a_new_instance_too(self) -> None:
        key = APIKey(name="A", key=TOKEN)
        key.save()
        assert (column(key), key.prefix, key.key) == (tokens.digest(TOKEN), TOKEN[:8], TOKEN)

    def test_get_or_create_returns_the_token_only_where_it_creates(self) -> None:
        made, created = APIKey.objects.get_or_create(name="A")
        got, created_again = APIKey.objects.get_or_create(name="A")
        assert (created, created_again) == (True, False)
        assert tokens.is_standard(made.key)
        assert got.key == tokens.digest(made.key)

    def test_get_or_create_finds_by_the_token(self) -> None:
        made, _ = APIKey.objects.get_or_create(key=TOKEN, defaults={"name": "A"})
        assert APIKey.objects.get_or_create(key=TOKEN, defaults={"name": "B"}) == (made, False)

    def test_update_or_create(self) -> None:
        made, _ = APIKey.objects.update_or_create(name="A", defaults={"key": TOKEN})
        same, created = APIKey.objects.update_or_create(name="A", defaults={"key": OTHER})
        assert (same, created, column(made), column(made, "prefix")) == (made, False, tokens.digest(OTHER), OTHER[:8])

    def test_bulk_create(self) -> None:
        keys = APIKey.objects.bulk_create([APIKey(name="A"), APIKey(name="B", key=TOKEN)])
        assert [column(key) for key in keys] == [tokens.digest(key.key) for key in keys]
        assert [column(key, "prefix") for key in keys] == [key.key[:8] for key in keys]
        assert all(opens(key.key) for key in keys)

    @pytest.mark.parametrize("how", ["save", "update", "bulk_update"])
    def test_a_new_token_for_an_old_key(self, how: str) -> None:
        key = APIKey.objects.create(name="A", key=OTHER)
        if how == "update":
            APIKey.objects.filter(pk=key.pk).update(key=TOKEN)
        else:
            key.key = TOKEN
            key.save() if how == "save" else APIKey.objects.bulk_update([key], ["key"])
        assert (column(key), column(key, "prefix")) == (tokens.digest(TOKEN), TOKEN[:8])
        assert opens(TOKEN)
        assert not opens(OTHER)

    def test_saving_what_was_loaded_keeps_the_key(self) -> None:
        made = APIKey.objects.create(name="A")
        key = APIKey.objects.get(pk=made.pk)
        key.name = "B"
        key.save()
        APIKey.objects.bulk_update([key], ["key", "name"])
        APIKey.objects.filter(pk=key.pk).update(key=key.key)
        assert opens(made.key)
        assert column(key, "prefix") == made.prefix

    def test_update_may_speak_of_the_column_itself(self) -> None:
        made = APIKey.objects.create(name="A")
        assert APIKey.objects.update(key=F("key")) == 1
        assert opens(made.key)
        assert column(made, "prefix") == made.prefix

    def test_the_key_is_unique_in_both_forms(self) -> None:
        APIKey.objects.create(name="A", key=TOKEN)
        with pytest.raises(IntegrityError), transaction.atomic():
            APIKey.objects.create(name="B", key=TOKEN)
        with override_settings(KEYS={"PREFIX": "auth_live_"}), pytest.raises(IntegrityError), transaction.atomic():
            APIKey.objects.create(name="B", key="auth_live_" + TOKEN)
        with pytest.raises(ValidationError, match="already exists"):
            APIKey(name="B", key=TOKEN).full_clean()

    @pytest.mark.parametrize("token", ["", "é", "a\nb", "\x00", "x" * 129, "\ud800"], ids=ascii)
    def test_what_no_request_can_present_cannot_be_a_key(self, token: str) -> None:
        key = APIKey.objects.create(name="A", key=TOKEN)
        for attempt in (
            lambda: APIKey.objects.create(name="B", key=token),
            lambda: APIKey.objects.bulk_create([APIKey(name="B", key=token)]),
            lambda: APIKey.objects.filter(pk=key.pk).update(key=token),
        ):
            with pytest.raises(ValidationError), transaction.atomic():
                attempt()
        assert column(key) == tokens.digest(TOKEN)

    def test_a_typed_key_works_and_shows_none_of_itself(self) -> None:
        key = APIKey.objects.create(name="A", key="hunter2-hunter2")
        assert opens("hunter2-hunter2")
        assert (key.prefix, key.typed_by_hand) == ("", True)
        assert not in_table("hunter2")


class TestComingOut:
    @pytest.fixture
    def made(self) -> APIKey:
        return APIKey.objects.create(name="A", key=TOKEN)

    def test_the_token_is_never_loaded(self, made: APIKey) -> None:
        digest = tokens.digest(TOKEN)
        assert APIKey.objects.get(pk=made.pk).key == digest
        assert APIKey.objects.only("key").get().key == digest
        assert APIKey.objects.only("name").get().key == digest
        assert APIKey.objects.defer("key").get().key == digest
        assert APIKey.objects.values("key").get() == {"key": digest}
        assert APIKey.objects.values_list("key", flat=True).get() == digest
        assert next(iter(APIKey.objects.raw("SELECT * FROM keys_apikey"))).key == digest
        made.refresh_from_db()
        assert made.key == digest

    def test_a_refresh_of_other_fields_keeps_the_token(self, made: APIKey) -> None:
        made.refresh_from_db(fields=["name"])
        assert made.key == TOKEN

    def test_deferred_fields_are_saved_around(self, made: APIKey) -> None:
        key = APIKey.objects.defer("key", "prefix").get()
        key.name = "B"
        key.save()
        assert opens(TOKEN)
        assert (column(key, "name"), column(key, "prefix")) == ("B", TOKEN[:8])

    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickled])
    def test_copies_and_pickles_carry_the_digest(self, made: APIKey, duplicate: Any) -> None:
        twin = duplicate(made)
        assert (twin, twin.key) == (made, tokens.digest(TOKEN))
        twin.name = "B"
        twin.save()
        assert opens(TOKEN)
        assert made.key == TOKEN

    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickled])
    def test_a_copy_of_what_is_not_saved_yet_can_be_saved(self, duplicate: Any) -> None:
        key = APIKey(name="A")
        twin = duplicate(key)
        twin.save()
        assert opens(key.key)
        assert column(twin, "prefix") == key.key[:8]

    def test_no_pickle_holds_the_token(self, made: APIKey) -> None:
        found = APIKey.objects.filter(key=TOKEN)
        either = APIKey.objects.filter(key__in=[TOKEN, OTHER]).exclude(key=OTHER)
        for what in (made, [made], found, found.query, either, either.query):
            assert TOKEN.encode() not in pickle.dumps(what)
        again = APIKey.objects.all()
        again.query = pickled(found.query)
        assert again.get() == made
        assert pickled(found).get() == made


class TestMigrations:
    @pytest.mark.parametrize("options", [{}, {"unique": False, "db_index": True}])
    def test_make_the_column_as_the_field_says(self, options: dict[str, Any]) -> None:
        # A package that keeps a history has the same key in many rows.
        _, _, args, kwargs = KeyField(**options).deconstruct()
        made: Any = KeyField(*args, **kwargs)
        assert (made.unique, made.db_index) == (not options, bool(options))
        assert kwargs == options
