"""Times are aware, and people read them in a zone whose clocks change."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from tests.worlds.settings import *  # noqa: F403

TIME_ZONE = "Europe/Berlin"
# MariaDB needs its time zone tables for it, which the check says (`keys.W013`).
VENDORS = {"postgresql", "sqlite"}


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    yield "days of 23 and of 25 hours", long_and_short_days


def long_and_short_days() -> None:
    """Each use counts on the day on which people made it, and the log's filter finds it there."""
    from keys.admin import activity
    from keys.models import APIKey
    from tests.support.log import record
    from tests.worlds.admin_pages import boss
    from tests.worlds.setups.use_tz_off import travelled

    for begin, hours in ((datetime(2026, 10, 24, 22, tzinfo=UTC), 25), (datetime(2027, 3, 27, 23, tzinfo=UTC), 23)):
        key = APIKey.objects.create(name=f"A day of {hours} hours")
        for hour in range(-1, hours + 1):
            record(key, method="GET", path="/", at=begin + timedelta(hours=hour, minutes=30))
        with travelled(begin + timedelta(hours=hours + 1)):
            before, day, after = activity.by_day([key.pk], 3, 100)[key.pk].days[-3:]
            assert [each.allowed for each in (before, day, after)] == [1, hours, 1], (before, day, after)
            page = boss().get(f"/admin/keys/auditevent/?when={day.day}&key={key.pk}")
            assert page.context["cl"].result_count == hours
