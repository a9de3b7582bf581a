"""How long a key of a user's lives, whatever is tried to make it longer."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import Settings

from keys import moments
from keys.models import APIKey, RotationError
from keys.selfservice import rules
from keys.tokens import Secret
from tests.selfservice.calls import endless, refused, row, with_rules
from tests.selfservice.limits import RULES
from tests.support.keys import backdate

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LONGEST: timedelta = RULES["LONGEST_LIFE"]


class TestLife:
    def test_is_the_longest_unless_an_end_is_named(self, anna: User) -> None:
        key = rules.create(anna, name="A")
        assert key.expires_at is not None
        assert timedelta(0) <= key.created_at + LONGEST - key.expires_at < HOUR
        assert rules.create(anna, name="A", expires_at=timezone.now() + DAY).expires_at is not None

    def test_may_be_for_ever_where_none_is_the_longest(self, settings: Settings, anna: User) -> None:
        with_rules(settings, LONGEST_LIFE=None)
        key = rules.create(anna, name="A")
        assert key.expires_at is None
        assert rules.change(key, expires_at=timezone.now() + 5000 * DAY).expires_at is not None
        assert rules.change(key, expires_at=None).expires_at is None
        assert rules.rotate(key).expires_at is None
        with_rules(settings, LONGEST_LIFE=timedelta.max)
        assert rules.create(anna, name="B").expires_at is None

    @pytest.mark.parametrize(
        "too_late",
        [
            lambda end: end + timedelta(microseconds=1),
            lambda end: (end + timedelta(microseconds=1)).astimezone(moments._zone()),
            lambda end: end.replace(tzinfo=None) + HOUR,
            lambda end: datetime(9999, 12, 31, 23, 59, 59),  # noqa: DTZ001
            lambda end: datetime.max.replace(tzinfo=UTC),
            lambda end: datetime.max.replace(tzinfo=ZoneInfo("America/New_York")),
            lambda end: datetime.min.replace(tzinfo=ZoneInfo("Asia/Tokyo")),
            lambda end: timezone.now(),
            lambda end: datetime(1, 1, 1, tzinfo=UTC),
            lambda end: None,
        ],
    )
    def test_is_not_stretched_by_a_change(self, key: APIKey, too_late: Callable[[datetime], datetime | None]) -> None:
        with refused("expires_at"):
            rules.change(key, expires_at=too_late(key.created_at + LONGEST))
        assert row(key).expires_at == key.expires_at

    def test_may_be_changed_within_the_longest(self, key: APIKey) -> None:
        for end in (timezone.now() + DAY, key.created_at + LONGEST):
            assert row(rules.change(key, expires_at=end)).expires_at == end

    def test_of_a_key_that_an_administrator_made_may_be_shortened(self, key: APIKey) -> None:
        backdate(key, timezone.now() - 2 * LONGEST)
        end = timezone.now() + 9 * LONGEST
        key = endless(key)
        assert row(rules.change(key, expires_at=end)).expires_at == end
        for later in (end + timedelta(microseconds=1), None):
            with refused("expires_at"):
                rules.change(key, expires_at=later)
        assert row(rules.change(key, expires_at=end, name="B")).name == "B"
        assert row(rules.change(key, expires_at=end - DAY)).expires_at == end - DAY

    def test_of_a_key_that_was_given_is_shortened_only(self, given: APIKey) -> None:
        end = timezone.now() + DAY
        assert row(rules.change(given, expires_at=end)).expires_at == end
        with refused("expires_at"):
            rules.change(given, expires_at=end + HOUR)
        assert row(rules.change(given, expires_at=end - HOUR)).expires_at == end - HOUR

    def test_of_a_key_that_is_to_go_is_shortened_only(self, key: APIKey) -> None:
        old = row(key)
        rules.rotate(key, DAY)
        assert key.expires_at is not None
        for copy in (row(key), old):
            with refused("expires_at"):
                rules.change(copy, expires_at=key.expires_at + HOUR)
        assert row(rules.change(key, expires_at=key.expires_at - HOUR)).expires_at == key.expires_at

    def test_of_a_key_that_is_to_go_is_not_stretched_by_an_old_copy(self, anna: User) -> None:
        key = rules.create(anna, name="A", expires_at=timezone.now() + HOUR)
        old = row(key)
        # Its own end is before that of the grace, and so stays as the copy knows it.
        rules.rotate(key, DAY)
        with refused("expires_at"):
            rules.change(old, expires_at=timezone.now() + DAY)

    @pytest.mark.parametrize("values", [{"is_active": False}, {"expires_at": timezone.now() - HOUR}])
    def test_that_is_over_is_not_given_back(self, key: APIKey, values: dict[str, Any]) -> None:
        old = row(key)
        APIKey.objects.filter(pk=key.pk).update(**values)
        for copy in (row(key), old):
            with refused():
                rules.change(copy, expires_at=timezone.now() + DAY, name="B")
            with pytest.raises(RotationError):
                rules.rotate(copy)
        assert row(key).objection

    def test_of_a_successor_is_at_most_the_longest(self, key: APIKey) -> None:
        backdate(key, timezone.now() - 2 * LONGEST)
        second = rules.rotate(endless(key), timedelta(0))
        assert isinstance(second.key, Secret)
        assert row(second).expires_at == second.expires_at == second.created_at + LONGEST
        APIKey.objects.filter(pk=key.pk).update(replaced_by=None, expires_at=timezone.now() + 9 * LONGEST)
        third = rules.rotate(row(key), timedelta(0))
        assert row(third).expires_at == third.expires_at == third.created_at + LONGEST

    def test_is_not_stretched_by_the_grace(self, settings: Settings, key: APIKey) -> None:
        for grace in (LONGEST + timedelta(microseconds=1), timedelta.max, timedelta(microseconds=-1)):
            with refused("grace"):
                rules.rotate(key, grace)
        end = key.expires_at
        rules.rotate(key, LONGEST)
        assert row(key).expires_at == end

    def test_may_be_shorter_than_the_usual_grace(self, settings: Settings, anna: User) -> None:
        with_rules(settings, LONGEST_LIFE=HOUR)
        key = rules.create(anna, name="A")
        end = key.expires_at
        rules.rotate(key)
        assert key.expires_at == end

    @pytest.mark.parametrize("use_tz", [True, False])
    def test_is_measured_on_the_clock_of_the_project(self, settings: Settings, anna: User, use_tz: bool) -> None:
        settings.USE_TZ, settings.TIME_ZONE = use_tz, "America/New_York"
        key = rules.create(anna, name="A")
        end = moments.instant(key.created_at) + LONGEST
        assert moments.instant(row(key).expires_at) <= end
        for late in (end + HOUR, moments.local(end + HOUR), moments.local(end + HOUR).replace(tzinfo=None)):
            with refused("expires_at"):
                rules.change(key, expires_at=late)
            with refused("expires_at"):
                rules.create(anna, name="A", expires_at=late + HOUR)
        for early in (end - HOUR, moments.local(end - HOUR).replace(tzinfo=None)):
            assert moments.instant(row(rules.change(key, expires_at=early)).expires_at) == end - HOUR
        assert rules.rotate(key).expires_at is not None
