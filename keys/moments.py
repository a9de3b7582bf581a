"""Moments in the form in which the project keeps them, in arithmetic and in words.

With `USE_TZ` a moment is aware. Without it, it is naive: local time in `TIME_ZONE`, which skips or repeats an hour
when clocks change. What counts time, compares with an instant or leaves the project goes through these functions.
Comparing two kept moments needs none of them.
"""

from datetime import UTC, date, datetime, time, timedelta, tzinfo

from django.conf import settings
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import ngettext


def instant(moment: datetime) -> datetime:
    """Return the moment in UTC. A naive one is local time in `TIME_ZONE`; `fold` tells the hour that comes twice."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.get_default_timezone())
    return moment.astimezone(UTC)


def kept(moment: datetime) -> datetime:
    """Return the moment as the project keeps it: aware, or naive if `USE_TZ` is off.

    A naive one is local time: in the current time zone, or if `USE_TZ` is off in `TIME_ZONE`.
    """
    if settings.USE_TZ:
        return moment if moment.tzinfo is not None else timezone.make_aware(moment)
    return moment if moment.tzinfo is None else moment.astimezone(_zone()).replace(tzinfo=None)


def after(moment: datetime, span: timedelta) -> datetime:
    """Return the moment as kept that is so much later, whatever clocks do in between. Raises OverflowError."""
    return kept(instant(moment) + span)


def has_passed(moment: datetime) -> bool:
    """Tell whether it is that moment or later. Once it is, it stays so when clocks are set back."""
    now = timezone.now()
    return moment <= now if now.tzinfo is not None else instant(moment) <= instant(now)


def today() -> date:
    """Return the date of today where people read it."""
    return local(timezone.now()).date()


def start_of(day: date) -> datetime:
    """Return the moment at which a day begins, as kept."""
    return kept(datetime.combine(day, time.min))


def local(moment: datetime) -> datetime:
    """Return the moment, aware, in the time zone in which people read it."""
    return instant(moment).astimezone(_zone())


def exactly(moment: datetime) -> str:
    """Return the moment to the minute, for people, with its time zone."""
    return f"{local(moment):%Y-%m-%d %H:%M %Z}"


def day_in_words(moment: datetime) -> str:
    """Return the day of the moment, for people, as their language writes it."""
    return date_format(local(moment), "DATE_FORMAT")


def length_in_words(span: timedelta) -> str:
    """Return a length of time, for people, in the largest unit in which it is a whole number."""
    days, hours, minutes = (span // timedelta(**{unit: 1}) for unit in ("days", "hours", "minutes"))
    if span == timedelta(days=days):
        return ngettext("%d day", "%d days", days) % days
    if span == timedelta(hours=hours):
        return ngettext("%d hour", "%d hours", hours) % hours
    if span == timedelta(minutes=minutes):
        return ngettext("%d minute", "%d minutes", minutes) % minutes
    return str(span)


def written(moment: datetime) -> str:
    """Return the moment in ISO 8601, for programs: in UTC, or if `USE_TZ` is off in local time with its offset."""
    return instant(moment).astimezone(UTC if settings.USE_TZ else _zone()).isoformat()


def zone_name() -> str:
    """Return the name of the time zone in which people read and type moments."""
    return str(_zone())


def _zone() -> tzinfo:
    # Without USE_TZ a time zone that was activated changes nothing.
    return timezone.get_current_timezone() if settings.USE_TZ else timezone.get_default_timezone()
