"""The form of an entry in a stream: a row of the log as JSON, and a ticket by which the table knows the row again.

Whoever can write to Redis can append anything. So an entry is read strictly: it is a use or a refusal as a web server
would have written it, or none. A later entry of the same row may add its outcome or raise its count, nothing else.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

from django.db import models
from django.db.backends.base.operations import BaseDatabaseOperations

from .. import environment, moments
from ..models.audit_event import (
    BLANK,
    DENIALS,
    EVENT_FIELDS,
    MANY_NETWORKS,
    OF_ONE_REQUEST,
    OUTCOME,
    STRANGERS,
    TRAFFIC,
    AuditEvent,
    Row,
)
from ..networks import parse_address
from ..redaction import printable
from .outcomes import is_ticket_of

LONGEST = 16_384  # bytes of an entry; the longest that a request makes is below 6000
# A dead clock says 1970. Beyond these years, a time in another zone may be none that Python knows.
TIMES = (datetime(1970, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC))
STATUSES = range(100, 600)

Event, Reason = AuditEvent.Event, AuditEvent.Reason


class EntryError(ValueError):
    """An entry is no row that a web server has appended. The text is a sentence that shows none of its values."""


def encode(row: Row) -> str:
    """Return the row, with its ticket, as JSON without its blank columns."""
    known = {name: value for name, value in row.items() if name not in BLANK or value != BLANK[name]}
    at = moments.instant(row["at"]).isoformat()
    return json.dumps({**known, "at": at}, ensure_ascii=False, separators=(",", ":"))


def decode(fields: Mapping[bytes, bytes]) -> Row:
    """Return the row of an entry, with its ticket. Raises EntryError if it is not a use or a refusal."""
    if fields.keys() != {b"row"}:
        raise EntryError("It has not one field, row.")
    known = _parsed(fields[b"row"])
    if not known.keys() <= _RULES.keys() | {"at"}:
        raise EntryError("It has a column that no request has.")
    row: Row = {**BLANK, "ticket": None, **known}
    row["at"] = _moment(row["at"])
    for name, is_possible in _RULES.items():
        if not is_possible(row[name]):
            raise EntryError(f"Its {name} is not possible.")
    if not is_ticket_of(row["ticket"], row["at"]):
        raise EntryError("Its ticket is that of another time.")
    _look_at_event(row)
    return row


def merged(one: Row, other: Row) -> Row:
    """Return the later of two states of a row. Raises EntryError if they differ in more than outcome and count."""
    earlier, later = sorted((one, other), key=lambda row: (row["status"] is not None, row["count"]))
    outcome_is_same = all(one[name] == other[name] for name in OUTCOME)
    gets_outcome = earlier["status"] is None and later["reason"] in ("", *DENIALS)
    is_fixed_same = all(one[name] == other[name] for name in _RULES if name not in (*OUTCOME, "count"))
    if not is_fixed_same or not (outcome_is_same or gets_outcome):
        raise EntryError(CONFLICT)
    return later


CONFLICT = "It differs from its row in more than an outcome or a higher count."


def _parsed(text: bytes) -> dict[str, Any]:
    if len(text) > LONGEST:
        raise EntryError(f"It is longer than {LONGEST} bytes.")
    try:
        found = json.loads(
            text.decode(), object_pairs_hook=_without_repetition, parse_float=_refuse, parse_constant=_refuse
        )
    except EntryError:
        raise
    except (ValueError, RecursionError) as error:
        raise EntryError("It is not JSON.") from error
    if not isinstance(found, dict):
        raise EntryError("It is not an object of JSON.")
    return found


def _without_repetition(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise EntryError("It names a column twice.")
    return found


def _refuse(text: str) -> NoReturn:
    raise EntryError("It holds a number that is not whole.")


def _moment(text: Any) -> datetime:
    """Return the time as the project keeps it."""
    try:
        at = datetime.fromisoformat(text)
        is_possible = at.tzinfo is not None and TIMES[0] <= at.astimezone(UTC) < TIMES[1]
    except (TypeError, ValueError, OverflowError):
        is_possible = False
    if not is_possible:
        raise EntryError("Its time is not possible.")
    return moments.kept(at.astimezone(UTC))


def _look_at_event(row: Row) -> None:
    """Raise EntryError unless the columns fit each other, as those of a use or of a refusal do."""
    if row["event"] not in TRAFFIC:
        raise EntryError("It is neither a use nor a refusal.")
    is_refusal = row["event"] == Event.REFUSED
    is_of_many = is_refusal and row["detail"] == MANY_NETWORKS
    # A service that asked about a key is the actor of its use. It had a key itself.
    is_by_service = row["actor"].startswith(("key:", environment.PREFIX))
    if (row["actor"] and not is_by_service) or (row["detail"] and not is_of_many):
        raise EntryError("It has a column that no request has.")
    is_of_stranger = row["reason"] in STRANGERS and row["api_key_id"] is None and not (row["key_name"] or row["owner"])
    is_blank = all(row[name] == BLANK[name] for name in ("key_prefix", *OF_ONE_REQUEST))
    if is_of_many and not (is_of_stranger and is_blank):
        raise EntryError("It counts refusals from many networks, and has what only one has.")
    if row["reason"] not in Reason.values or bool(row["reason"]) is not is_refusal:
        raise EntryError("Its reason does not fit its event.")
    is_open = row["status"] is None and row["duration_ms"] is None and not is_refusal
    if not is_open and row["status"] not in STATUSES:
        raise EntryError("Its status is not possible.")
    if row["count"] != 1 and (row["count"] < 1 or not is_of_stranger):
        raise EntryError("Its count is not that of strangers.")


def _rule_for(field: Any) -> Callable[[Any], bool]:
    """Return what tells whether a column can hold a value, in the form in which recording writes it."""
    if isinstance(field, models.CharField):
        is_possible = _text_of(field.max_length or 0)
    elif isinstance(field, models.GenericIPAddressField):
        is_possible = _is_address
    else:
        whole = getattr(field, "target_field", field)
        is_possible = _number_within(*BaseDatabaseOperations.integer_field_ranges[whole.get_internal_type()])
    return (lambda value: value is None or is_possible(value)) if field.null else is_possible


def _text_of(width: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and len(value) <= width and printable(value) == value


def _number_within(least: int, most: int) -> Callable[[Any], bool]:
    # A boolean is an int, too.
    return lambda value: type(value) is int and least <= value <= most


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and str(parse_address(value)) == value


_RULES: Mapping[str, Callable[[Any], bool]] = {
    **{field.attname: _rule_for(field) for field in EVENT_FIELDS if field.name != "at"},
    "ticket": _number_within(0, 2**63 - 1),
}
