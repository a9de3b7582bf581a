"""Which record of another system became which key: by one name, whoever writes it down, and never by the secret."""

import hashlib
import uuid
from datetime import UTC, datetime

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from keys import tokens
from keys.models import APIKey
from keys.models.fields import Digest, digest
from keys.models.key_origin import LONGEST_REF, LONGEST_SOURCE, ref_of, source_of
from keys.moments import instant
from tests.support.keys import change
from tests.support.log import all_events

TOKEN = "sk_live_9f2c7b41d8e05a63c4f1b7d2e8a90c35f6e1d4b2"
SHA_512 = Digest("sha512$" + hashlib.sha512(TOKEN.encode()).hexdigest())


def test_a_source_is_the_label_of_the_model_however_it_is_named() -> None:
    assert source_of(get_user_model()) == source_of("auth.User") == source_of("auth.user") == "auth.user"


@pytest.mark.parametrize(
    ("named", "source"),
    [("Billing service", "billing service"), (" old.Table ", "old.table"), ("a\nb", "a\\nb")],
)
def test_a_source_that_is_no_model_here_has_a_name_too(named: str, source: str) -> None:
    assert source_of(named) == source


def test_a_source_fits_its_column() -> None:
    assert len(source_of("x" * 500)) == LONGEST_SOURCE


@pytest.mark.parametrize("pk", [7, "7", uuid.UUID(int=7), "anna@example.com", TOKEN[:8]])
def test_a_reference_is_the_text_of_the_primary_key(pk: object) -> None:
    assert ref_of(pk, TOKEN) == ref_of(pk, digest(TOKEN)) == str(pk)


@pytest.mark.parametrize("key", [TOKEN, digest(TOKEN), SHA_512])
def test_the_digest_stands_for_a_primary_key_that_is_the_key(key: str) -> None:
    assert ref_of(TOKEN, key) == digest(TOKEN)


def test_the_digest_stands_for_what_holds_the_key() -> None:
    assert ref_of(f"tokens/{TOKEN}", TOKEN) == digest(f"tokens/{TOKEN}")


@pytest.mark.parametrize("pk", ["", "x" * 300, "a\nb", "\ud800"])
def test_the_digest_stands_for_what_is_no_short_text(pk: object) -> None:
    assert tokens.is_digest(ref_of(pk, TOKEN))
    assert len(ref_of(pk, TOKEN)) <= LONGEST_REF


def test_the_projects_own_prefix_makes_no_other_reference(settings: Settings) -> None:
    settings.KEYS = {**settings.KEYS, "PREFIX": "auth_"}
    token = tokens.generate()
    assert ref_of(token, f"auth_{token}") == ref_of(f"auth_{token}", digest(token)) == digest(token)


@pytest.mark.django_db
@pytest.mark.parametrize("many", [False, True])
def test_a_key_of_another_system_is_as_old_as_it_was_there_and_its_event_says_whence_it_came(many: bool) -> None:
    key = APIKey(name="Billing", key=TOKEN, scopes=[])
    key.made_at, note = datetime(2019, 5, 6, 7, tzinfo=UTC), "imported from old.token"
    with CaptureQueriesContext(connection) as queries:
        if many:
            APIKey.objects.all().create_checked([key], note=note)
        else:
            key.creation_note = note
            key.save()
    assert not [query for query in queries if query["sql"].startswith("UPDATE")]
    assert instant(APIKey.objects.get().created_at) == datetime(2019, 5, 6, 7, tzinfo=UTC)
    assert all_events() == [("created", "imported from old.token")]
    key.refresh_from_db()
    change(key, name="Sales")
    assert instant(APIKey.objects.get().created_at) == datetime(2019, 5, 6, 7, tzinfo=UTC)
