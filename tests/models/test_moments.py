"""Moments: kept as the project keeps them, counted as they pass, written with an offset."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from keys import moments
from keys.models import APIKey, AuditEvent, AuditSeal
from keys.models.fields import InstantField, MomentField, in_database

# Berlin's clocks go back from 3:00 to 2:00 at this moment, and forward from 2:00 to 3:00 at the other.
BACK = datetime(2026, 10, 25, 1, tzinfo=UTC)
FORWARD = datetime(2027, 3, 28, 1, tzinfo=UTC)


def naive(*numbers: int, fold: int = 0) -> datetime:
    return datetime(*numbers, fold=fold)  # type: ignore[arg-type]  # noqa: DTZ001


@pytest.fixture
def berlin(settings: Settings) -> None:
    settings.USE_TZ, settings.TIME_ZONE = False, "Europe/Berlin"


def same(one: datetime, other: datetime) -> bool:
    return one == other and one.fold == other.fold and one.tzinfo is other.tzinfo


@pytest.mark.usefixtures("berlin")
def test_what_is_kept_is_local_and_says_which_of_two_hours() -> None:
    assert same(moments.kept(BACK - timedelta(minutes=30)), naive(2026, 10, 25, 2, 30))
    assert same(moments.kept(BACK + timedelta(minutes=30)), naive(2026, 10, 25, 2, 30, fold=1))
    assert same(moments.kept(naive(2026, 7, 1)), naive(2026, 7, 1))
    for moment in (BACK, BACK - timedelta(minutes=1), FORWARD, FORWARD - timedelta(minutes=1)):
        assert moments.instant(moments.kept(moment)) == moment


@pytest.mark.usefixtures("berlin")
def test_time_passes_as_it_does_whatever_clocks_do() -> None:
    assert same(moments.after(naive(2026, 10, 25, 2, 30), timedelta(hours=1)), naive(2026, 10, 25, 2, 30, fold=1))
    assert same(moments.after(naive(2027, 3, 28, 1, 30), timedelta(hours=1)), naive(2027, 3, 28, 3, 30))
    assert same(moments.after(naive(2027, 3, 28, 3, 30), timedelta(hours=-1)), naive(2027, 3, 28, 1, 30))
    with pytest.raises(OverflowError):
        moments.after(naive(9999, 12, 31), timedelta(days=2))


@pytest.mark.usefixtures("berlin")
def test_people_and_programs_read_the_zone() -> None:
    assert moments.exactly(naive(2026, 7, 1, 12)) == "2026-07-01 12:00 CEST"
    assert moments.written(naive(2026, 7, 1, 12)) == "2026-07-01T12:00:00+02:00"
    assert moments.written(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T01:00:00+01:00"
    assert moments.start_of(date(2026, 7, 1)) == naive(2026, 7, 1)
    assert moments.zone_name() == "Europe/Berlin"
    with timezone.override(ZoneInfo("Asia/Tokyo")):
        # As in all of Django without USE_TZ.
        assert moments.zone_name() == "Europe/Berlin"
        assert moments.exactly(naive(2026, 7, 1, 12)) == "2026-07-01 12:00 CEST"


def test_with_use_tz_the_current_zone_is_for_people(settings: Settings) -> None:
    settings.USE_TZ, settings.TIME_ZONE = True, "Europe/Berlin"
    moment = datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert moments.kept(moment) is moment
    assert moments.written(moment) == "2026-07-01T12:00:00+00:00"
    assert moments.exactly(moment) == "2026-07-01 14:00 CEST"
    with timezone.override(ZoneInfo("Asia/Tokyo")):
        assert moments.exactly(moment) == "2026-07-01 21:00 JST"
        assert moments.start_of(date(2026, 7, 1)) == datetime(2026, 6, 30, 15, tzinfo=UTC)


@pytest.mark.usefixtures("berlin")
@pytest.mark.django_db
def test_an_aware_moment_is_taken_where_times_are_naive() -> None:
    key = APIKey.objects.create(name="Aware", expires_at=datetime(2090, 7, 1, tzinfo=UTC))
    assert key.state == "active"
    assert APIKey.objects.get(expires_at=datetime(2090, 7, 1, tzinfo=UTC)) == key
    assert APIKey.objects.get(expires_at__gte=naive(2090, 7, 1, 2), expires_at__lt=naive(2090, 7, 1, 3)) == key
    # The instance holds what the row holds, so a later change of it is none of a stale copy.
    assert same(key.expires_at or BACK, naive(2090, 7, 1, 2))
    key.expires_at = datetime(2090, 8, 1, tzinfo=UTC)
    key.save()
    assert APIKey.objects.get(pk=key.pk).expires_at == naive(2090, 8, 1, 2)
    (unsaved,) = APIKey.objects.bulk_create([APIKey(name="Bulk", expires_at=BACK)])
    assert same(unsaved.expires_at or BACK, naive(2026, 10, 25, 2, fold=1))


@pytest.mark.usefixtures("berlin")
def test_a_database_that_keeps_instants_gets_them() -> None:
    second = naive(2026, 10, 25, 2, 30, fold=1)
    expected = BACK + timedelta(minutes=30) if connection.features.supports_timezones else second
    assert same(in_database(second, connection), expected)
    stored = MomentField().get_db_prep_value(second, connection)
    assert stored == connection.ops.adapt_datetimefield_value(expected)


def test_a_seal_keeps_its_times_whatever_use_tz_is(settings: Settings) -> None:
    moment, stored = datetime(2026, 7, 1, 12, 0, 0, 5, tzinfo=UTC), []
    for settings.USE_TZ, settings.TIME_ZONE in ((True, "UTC"), (False, "Europe/Berlin"), (False, "America/New_York")):
        stored.append(InstantField().get_db_prep_value(moment, connection))
        returned = moment if settings.USE_TZ else moment.replace(tzinfo=None)
        if not settings.USE_TZ and connection.features.supports_timezones:
            returned = moments.kept(moment)
        read = InstantField().from_db_value(returned, None, connection)  # type: ignore[arg-type]
        assert (read, read and read.tzinfo) == (moment, UTC)
    assert len({str(value) for value in stored}) == 1


def test_every_time_of_ours_is_such_a_field() -> None:
    fields = [field for model in (APIKey, AuditEvent, AuditSeal) for field in model._meta.concrete_fields]
    times = [field for field in fields if field.get_internal_type() == "DateTimeField"]
    assert len(times) == 6
    assert all(isinstance(field, MomentField | InstantField) for field in times)


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(days=1), "1 day"), (timedelta(weeks=2), "14 days"), (timedelta(hours=1), "1 hour"),
        (timedelta(days=1, hours=12), "36 hours"), (timedelta(minutes=90), "90 minutes"),
        (timedelta(minutes=1), "1 minute"), (timedelta(seconds=90), "0:01:30"),
        (timedelta(days=1, microseconds=1), "1 day, 0:00:00.000001"),
    ],
)  # fmt: skip
def test_a_length_of_time_is_said_in_its_largest_whole_unit(span: timedelta, words: str) -> None:
    assert moments.length_in_words(span) == words
