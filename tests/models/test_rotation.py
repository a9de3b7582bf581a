"""Rotation: a successor, an overlap, and never a longer life for the old key."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import override_settings
from django.utils import timezone
from pytest_django import Settings

from keys import tokens
from keys.models import APIKey, AuditEvent, RotationError
from keys.tokens import Secret
from tests.support.callers import opens
from tests.support.processes import at_once

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
# As far as the calendar goes: what people enter for “never”.
END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.fixture
def key() -> APIKey:
    return APIKey.objects.create(name="A", scopes=["users:read"], allowed_ips=["127.0.0.0/8"], rate="1000/min")


def test_both_keys_are_accepted_meanwhile(key: APIKey) -> None:
    successor = key.rotate(grace=HOUR)
    assert tokens.is_standard(successor.key)
    assert successor.key != key.key
    assert [opens(key.key, "/scoped/"), opens(successor.key, "/scoped/")] == [True, True]
    APIKey.objects.filter(pk=key.pk).update(expires_at=timezone.now())
    assert [opens(key.key), opens(successor.key)] == [False, True]


def test_the_successor_has_the_same_name_scopes_limits_and_family(key: APIKey) -> None:
    second = key.rotate()
    third = second.rotate()
    for successor in (second, third):
        stored = APIKey.objects.get(pk=successor.pk)
        assert (stored.name, stored.scopes) == ("A", ["users:read"])
        assert (stored.allowed_ips, stored.rate) == (["127.0.0.0/8"], "1000/min")
        assert (stored.is_active, stored.family) == (True, key.pk)
    assert third.expires_at is None
    assert (key.replaced_by, second.replaced_by, third.replaced_by) == (second, third, None)
    assert (second.predecessor, third.predecessor) == (key, second)
    assert key.family is None


def test_the_limits_are_those_of_the_row_and_not_of_an_old_copy(key: APIKey) -> None:
    old = APIKey.objects.get(pk=key.pk)
    key.scopes, key.rate = [], "800/min"
    key.save()
    successor = old.rotate()
    assert (successor.scopes, successor.rate) == ([], "800/min")
    old.name = "B"
    old.save()
    assert APIKey.objects.get(pk=key.pk).scopes == []


class TestGrace:
    def test_is_a_week_unless_the_settings_say_otherwise(self, key: APIKey) -> None:
        before = timezone.now()
        key.rotate()
        assert key.expires_at is not None
        assert before + timedelta(days=7) <= key.expires_at <= timezone.now() + timedelta(days=7)

    def test_is_the_settings(self, key: APIKey) -> None:
        before = timezone.now()
        with override_settings(KEYS={"ROTATION_GRACE": HOUR}):
            key.rotate()
        assert key.expires_at is not None
        assert before + HOUR <= key.expires_at <= timezone.now() + HOUR

    def test_zero_ends_the_old_key_at_once(self, key: APIKey) -> None:
        successor = key.rotate(grace=timedelta(0))
        assert [opens(key.key), opens(successor.key)] == [False, True]
        assert key.state == "expired"

    def test_cannot_be_negative(self, key: APIKey) -> None:
        with pytest.raises(ValueError, match="cannot be negative"):
            key.rotate(grace=timedelta(microseconds=-1))
        assert APIKey.objects.count() == 1
        assert APIKey.objects.get().expires_at is None

    @pytest.mark.parametrize(("left", "grace"), [(HOUR, 2 * HOUR), (2 * HOUR, HOUR), (HOUR, timedelta.max)])
    def test_never_extends_the_life_of_the_old_key(self, key: APIKey, left: timedelta, grace: timedelta) -> None:
        expires_at = timezone.now() + left
        APIKey.objects.update(expires_at=expires_at)
        before = timezone.now()
        key.rotate(grace=grace)
        assert key.expires_at is not None
        if left < grace:
            assert key.expires_at == expires_at
        else:
            assert before + grace <= key.expires_at <= timezone.now() + grace

    def test_may_be_longer_than_the_calendar(self, key: APIKey) -> None:
        key.rotate(grace=timedelta.max)
        assert key.expires_at is None
        assert opens(key.key)
        assert AuditEvent.objects.get(event="rotated").detail.endswith("accepted for ever")


class TestLength:
    def test_of_life_is_the_same(self, key: APIKey) -> None:
        born = timezone.now() - timedelta(days=80)
        APIKey.objects.update(created_at=born, expires_at=born + timedelta(days=90))
        before = timezone.now()
        successor = key.rotate()
        assert successor.expires_at is not None
        assert before + timedelta(days=90) <= successor.expires_at <= timezone.now() + timedelta(days=90)

    def test_beyond_the_calendar_is_for_ever(self, key: APIKey) -> None:
        APIKey.objects.update(created_at=timezone.now() - timedelta(days=1), expires_at=END)
        successor = key.rotate(grace=HOUR)
        assert successor.expires_at is None
        assert opens(successor.key)
        assert key.expires_at is not None
        assert key.expires_at < END


class TestRefusal:
    @pytest.mark.parametrize(
        ("values", "state"),
        [
            ({"is_active": False}, "inactive"),
            ({"expires_at": timezone.now() - HOUR}, "expired"),
            ({"is_active": False, "expires_at": timezone.now() - HOUR}, "inactive"),
        ],
        ids=["inactive", "expired", "both"],
    )
    def test_of_a_key_that_has_ended_says_why(self, key: APIKey, values: dict[str, Any], state: str) -> None:
        APIKey.objects.update(**values)
        with pytest.raises(RotationError, match=rf"A \({key.prefix}\) is {state}: make a new key"):
            key.rotate()
        assert APIKey.objects.count() == 1
        assert not AuditEvent.objects.filter(event="rotated").exists()

    def test_depends_on_the_row_and_not_on_the_copy(self, key: APIKey) -> None:
        key.is_active = False
        successor = key.rotate()
        assert (successor.is_active, key.is_active) == (True, True)

    def test_of_a_key_that_is_gone(self, key: APIKey) -> None:
        APIKey.objects.all().delete()
        with pytest.raises(APIKey.DoesNotExist):
            key.rotate()


class TestTwice:
    def test_makes_one_successor_and_shows_its_secret_once(self, key: APIKey) -> None:
        old = APIKey.objects.get(pk=key.pk)
        first = key.rotate(HOUR)
        for copy in (key, old):
            again = copy.rotate(timedelta(0))
            assert again == first
            assert not isinstance(again.key, Secret)
            assert not opens(again.key)
        assert APIKey.objects.count() == 2
        assert opens(key.key)
        assert old.replaced_by == first

    def test_holds_even_where_the_old_key_has_ended(self, key: APIKey) -> None:
        first = key.rotate(timedelta(0))
        assert key.rotate() == first
        key.deactivate()
        assert key.rotate() == first

    @pytest.mark.matrix
    @pytest.mark.django_db(transaction=True)
    def test_at_once_in_two_processes_makes_one_successor(self, key: APIKey) -> None:
        lines = f"""
from keys.models import APIKey
from keys.tokens import Secret
key = APIKey.objects.get(pk={key.pk})
for _ in range(20):
    successor = key.rotate()
    print(successor.pk, isinstance(successor.key, Secret))
"""
        printed = "".join(at_once(lines, lines)).splitlines()
        [successor] = APIKey.objects.exclude(pk=key.pk)
        assert sorted(printed) == [*[f"{successor.pk} False"] * 39, f"{successor.pk} True"]
        assert AuditEvent.objects.filter(event="rotated").count() == 1
        assert AuditEvent.objects.filter(event="created").count() == 2

    @pytest.mark.matrix
    @pytest.mark.django_db(transaction=True)
    def test_at_once_with_a_deactivation_leaves_the_old_key_inactive(self, key: APIKey) -> None:
        lines = f"""
from keys.models import APIKey, RotationError
key = APIKey.objects.get(pk={key.pk})
try:
    key.rotate()
except RotationError:
    pass
"""
        at_once(lines, lines.replace("key.rotate()", "key.deactivate()"))
        assert not opens(key.key)


def test_a_key_whose_successor_was_deleted_can_be_rotated_again(key: APIKey) -> None:
    key.rotate().delete()
    old = APIKey.objects.get(pk=key.pk)
    assert (old.replaced_by, old.state) == (None, "expiring")
    successor = old.rotate()
    assert [opens(key.key), opens(successor.key)] == [True, True]


def test_a_predecessor_may_be_deleted(key: APIKey) -> None:
    successor = key.rotate()
    token = key.key
    key.delete()
    assert [opens(token), opens(successor.key)] == [False, True]
    assert APIKey.objects.get().family is not None


def test_a_key_with_a_scope_that_has_left_the_registry_can_be_rotated(key: APIKey) -> None:
    with override_settings(KEYS={"SCOPES": {"mail:send": ""}}):
        assert key.rotate().scopes == ["users:read"]


def test_no_token_of_a_chain_is_in_the_table(key: APIKey) -> None:
    chain = [key]
    for _ in range(3):
        chain.append(chain[-1].rotate())
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM keys_apikey")
        table = str(cursor.fetchall())
        cursor.execute("SELECT * FROM keys_auditevent")
        table += str(cursor.fetchall())
    assert len({link.key for link in chain}) == 4
    assert [link.key for link in chain if link.key in table] == []


# Another value than its default for each field that a successor takes over.
COPIED = {
    "name": "TTS",
    "scopes": ["tracking:write"],
    "allowed_ips": ["127.0.0.0/8"],
    "rate": "1000/min",
    "owner_ref": "auth.user:7",
    "note": "Ask Anna.",
}


def test_each_field_is_copied_or_the_successors_own() -> None:
    placed = [*APIKey.COPIED_BY_ROTATION, *APIKey.OWN_AFTER_ROTATION]
    assert sorted(placed) == sorted(field.name for field in APIKey._meta.concrete_fields)


def test_each_field_that_is_to_be_copied_is(settings: Settings) -> None:
    settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User"]}
    assert COPIED.keys() == APIKey.COPIED_BY_ROTATION
    assert [name for name, value in COPIED.items() if getattr(APIKey(), name) == value] == []
    User.objects.create(pk=7)
    key = APIKey.objects.create(**COPIED)
    successor = key.rotate()
    assert APIKey.objects.filter(pk=successor.pk).values(*COPIED).get() == COPIED
