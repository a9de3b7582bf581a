"""Reads what another system's table holds: yes or no, moments, lists of words.

Each function raises ObstacleError, whose text holds no value: somebody may have named the field of the secret.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from django.utils.dateparse import parse_date, parse_datetime

from .. import moments
from ..models.fields import EARLIEST, LATEST

YES = {"1", "t", "true", "y", "yes", "on"}
NO = {"0", "f", "false", "n", "no", "off"}
GOOD = {"active", "enabled", "valid", "ok"}
BAD = {"inactive", "disabled", "revoked", "deleted", "suspended", "blocked", "expired"}
# From here on a number counts milliseconds: as seconds, it would be in the year 5138.
MILLISECONDS = 10**11


class ObstacleError(Exception):
    """Why a record cannot become a key, in a sentence that holds none of its values."""


def is_active(value: Any, field: str) -> bool:
    """Tell whether a record whose field says so is active."""
    said = _switch(value, yes=YES | GOOD, no=NO | BAD)
    if said is None:
        raise ObstacleError(f"{field} says neither yes nor no")
    return said


def revoked(value: Any, field: str) -> tuple[bool, datetime | None]:
    """Return whether the record is revoked, and the moment at which it will be, if that is yet to come.

    Nothing means that it is not; a moment means that it is from then on.
    """
    if value is None or _text(value) == "":
        return False, None
    said = _switch(value, yes=YES | BAD, no=NO | GOOD)
    if said is not None:
        return said, None
    at = moment(value, field)
    if at is None or moments.has_passed(at):
        return True, None
    return False, at


def moment(value: Any, field: str) -> datetime | None:
    """Return the moment as the project keeps it, and None where there is none.

    Takes moments and dates, their texts in ISO 8601, and seconds or milliseconds since 1970.
    """
    value = _text(value)
    if value is None or value == "":
        return None
    at = None
    with suppress(ValueError, OverflowError, OSError, TypeError, ArithmeticError):
        at = _moment(value)
    if at is None:
        raise ObstacleError(f"{field} holds no moment")
    return at


def past(value: Any, field: str) -> datetime | None:
    """Return the moment as `moment` does. One that is yet to come is an obstacle."""
    at = moment(value, field)
    if at is not None and not moments.has_passed(at):
        raise ObstacleError(f"{field} is in the future")
    return at


def words(value: Any, field: str) -> Sequence[str]:
    """Return the texts of a list, also of one in JSON, or the words of a text between commas or blanks."""
    value = _text(value)
    if value is None or value == "":
        return []
    if isinstance(value, str) and value.startswith("["):
        with suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, str):
        return value.replace(",", " ").split()
    if isinstance(value, list | tuple | set) and all(isinstance(one, str) for one in value):
        return [one.strip() for one in value]
    raise ObstacleError(f"{field} holds no list of texts")


def _text(value: Any) -> Any:
    """Return a text without blanks around it, and from octets; any other value as it is."""
    if isinstance(value, bytes | bytearray | memoryview):
        value = bytes(value)
        with suppress(UnicodeDecodeError):
            value = value.decode()
    return value.strip() if isinstance(value, str) else value


def _switch(value: Any, yes: Collection[str], no: Collection[str]) -> bool | None:
    # MySQL's BIT(1)
    if isinstance(value, bytes | bytearray | memoryview) and len(value) == 1 and bytes(value) in (b"\0", b"\1"):
        return bytes(value) == b"\1"
    value = _text(value)
    if isinstance(value, str):
        return True if value.lower() in yes else False if value.lower() in no else None
    is_number = isinstance(value, bool | int | float | Decimal) and value in (0, 1)
    return bool(value) if is_number else None


def _moment(value: Any) -> datetime | None:
    if isinstance(value, str):
        value = _number(value) or parse_datetime(value) or parse_date(value)
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        seconds = float(value) / 1000 if value >= MILLISECONDS else float(value)
        value = datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = moments.start_of(value)
    if not isinstance(value, datetime):
        return None
    # One from a time before zones were used is local.
    at = moments.kept(value)
    return at if EARLIEST <= moments.instant(at) <= LATEST else None


def _number(text: str) -> Decimal | None:
    bare = text.replace(".", "", 1)
    # A year alone is no number of seconds.
    return Decimal(text) if bare.isascii() and bare.isdigit() and len(bare) > 4 else None
