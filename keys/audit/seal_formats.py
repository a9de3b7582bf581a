"""The numbered formats of seals: which columns of a row are sealed, in which order, and how each value is written down.

What is sealed is what is stored, past Django's converters, which read many spellings as one value. A value in the
spelling in which Django and this app write it is written down alike on every database. Any other one, which an address,
a time, JSON, and on SQLite every column may have, is written down as it is, with its type.

A seal is verified by its own format, and made in the newest. Whoever adds a column to the log adds a format, with the
next number, and leaves the others as they are.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property, lru_cache, partial
from ipaddress import ip_address
from typing import Any, ClassVar

from django.conf import settings
from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Func, QuerySet, TextField

from ..models import AuditEvent

MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECONDS = " s"  # after a time of PostgreSQL that Python does not have

# A value as it is written down, and a row of them in the order of its format. A list is a value in another spelling:
# its type, and what is stored.
Written = None | int | str | list[str]
Row = list[Any]
# The type of the values that are written down as they are, and what writes the others. None is always as it is.
Writing = tuple[type | None, Callable[[Any], Written]]

_json = json.JSONEncoder(separators=(",", ":")).encode


def foreign(value: Any) -> list[str]:
    """Return a value that is of another type, or spelt otherwise, than this app writes it."""
    if isinstance(value, bytes | memoryview):
        return ["blob", bytes(value).hex()]
    name = {str: "text", int: "integer", float: "real"}.get(type(value), type(value).__name__)
    return [name, value if isinstance(value, str) else repr(value)]


class Kind:
    """What a column holds."""

    plain: type | None = None
    # How a column is read, by the vendor of the database. Elsewhere by its name.
    sql: ClassVar[Mapping[str, str]] = {}

    def writing(self, connection: BaseDatabaseWrapper) -> Writing:
        """Return how the values are written down that were read from this connection."""
        return self.plain, foreign


class Number(Kind):
    plain = int


class Text(Kind):
    plain = str


class Binary(Kind):
    plain = bytes

    def writing(self, connection: BaseDatabaseWrapper) -> Writing:
        return bytes, lambda value: bytes(value) if isinstance(value, memoryview) else foreign(value)  # type: ignore[return-value]


class Moment(Kind):
    """A time, written down in microseconds since 1970 (UTC).

    With `USE_TZ = False` local time counts as if it were UTC, where the database does not keep instants.
    """

    sql: ClassVar[Mapping[str, str]] = {
        # Exact, whatever the time zone of the connection. In seconds since 1970 if Python has no such time.
        "postgresql": "CASE WHEN %(expressions)s BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'"
        " THEN (EXTRACT(EPOCH FROM %(expressions)s) * 1000000)::bigint::text"
        f" ELSE EXTRACT(EPOCH FROM %(expressions)s) || '{SECONDS}' END",
        # The driver makes None of a date of zeros.
        "mysql": "CAST(%(expressions)s AS CHAR)",
    }

    def writing(self, connection: BaseDatabaseWrapper) -> Writing:
        if connection.features.supports_timezones:
            return None, lambda value: foreign(value) if value.endswith(SECONDS) else int(value)
        zone = connection.timezone if settings.USE_TZ else None
        # On MariaDB the column's type says how many digits a fraction has.
        return None, partial(_moment, zone=None if zone is UTC else zone, is_typed=connection.vendor != "sqlite")


def _moment(value: Any, *, zone: tzinfo | None, is_typed: bool) -> Written:
    if type(value) is not str:
        return foreign(value)
    try:
        naive = datetime.fromisoformat(value)
        if naive.tzinfo is not None or not (is_typed or str(naive) == value):
            return foreign(value)
        moment = naive.replace(tzinfo=UTC if zone is None else zone).astimezone(UTC)
        if zone is not None and moment.astimezone(zone).replace(tzinfo=None) != naive:
            return foreign(value)  # in an hour that is skipped when clocks change
    except (ValueError, OverflowError):
        return foreign(value)
    return (moment - EPOCH) // MICROSECOND


class Address(Kind):
    """An address, written down in hexadecimal. Of text the spelling of `GenericIPAddressField` is the one."""

    # With the mask, if there is one.
    sql: ClassVar[Mapping[str, str]] = {"postgresql": "abbrev(%(expressions)s)"}

    def writing(self, connection: BaseDatabaseWrapper) -> Writing:
        return None, partial(_address, is_typed=connection.vendor == "postgresql")


@lru_cache(maxsize=1024, typed=True)
def _address(value: Any, *, is_typed: bool) -> Written:
    try:
        address = ip_address(value) if type(value) is str else None
    except ValueError:
        address = None
    # With a zone, an address equals the same one without it.
    if address is None or getattr(address, "scope_id", None) is not None:
        return foreign(value)
    mapped = getattr(address, "ipv4_mapped", None)
    return (
        address.packed.hex()
        if is_typed or value == (f"::ffff:{mapped}" if mapped else str(address))
        else foreign(value)
    )


class Json(Kind):
    """JSON, written down with the keys of objects in order, as `SortedJSONField` writes it."""

    sql: ClassVar[Mapping[str, str]] = {"postgresql": "CAST(%(expressions)s AS text)"}

    def writing(self, connection: BaseDatabaseWrapper) -> Writing:
        return None, partial(_text_of_json, is_typed=connection.vendor == "postgresql")


def _text_of_json(value: Any, *, is_typed: bool) -> Written:
    if type(value) is not str:
        return foreign(value)
    try:
        written = json.dumps(json.loads(value, parse_float=_exact), sort_keys=True)
    except (ValueError, RecursionError):
        return foreign(value)
    return written if is_typed or written == value else foreign(value)


def _exact(text: str) -> float:
    """Return the number that is written so. Raises ValueError for another spelling: PostgreSQL keeps 1.0 and 1.00."""
    if repr(number := float(text)) != text:
        raise ValueError
    return number


NUMBER, TEXT, BINARY, MOMENT, ADDRESS, JSON = Number(), Text(), Binary(), Moment(), Address(), Json()


class Format:
    """A format: its number, and the kind of each column in order. The first three are `id`, `at` and `event`."""

    def __init__(self, number: int, columns: Mapping[str, Kind]) -> None:
        self.number, self.columns = number, columns

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The place of each column in a row."""
        return {column: place for place, column in enumerate(self.columns)}

    def encoded(self, row: Sequence[Any]) -> bytes:
        """Return a row as bytes: a JSON array in ASCII."""
        return _json(row[: len(self.columns)]).encode()


_COLUMNS_1: Mapping[str, Kind] = {
    "id": NUMBER, "at": MOMENT, "event": TEXT, "reason": TEXT, "api_key_id": NUMBER, "key_name": TEXT,
    "key_prefix": TEXT, "method": TEXT, "path": TEXT, "endpoint": TEXT, "status": NUMBER, "duration_ms": NUMBER,
    "address": ADDRESS, "user_agent": TEXT, "request_id": TEXT, "actor": TEXT, "count": NUMBER, "detail": TEXT,
    "changes": JSON, "ticket": NUMBER,
}  # fmt: skip
_COLUMNS_2: Mapping[str, Kind] = {**_COLUMNS_1, "owner": TEXT}
# Every format that seals were ever made in. One with another column is 3: Format(3, {**_COLUMNS_2, "new": TEXT}).
FORMATS: dict[int, Format] = {1: Format(1, _COLUMNS_1), 2: Format(2, _COLUMNS_2)}


def newest() -> Format:
    """Return the format in which seals are made."""
    return FORMATS[max(FORMATS)]


def unknown(number: int) -> str:
    """Return the sentence about a format that this release does not know."""
    if number < min(FORMATS):
        return f"has the format {number}, of a time before formats had numbers: no release verifies it."
    return f"has the format {number}, and this release knows none after {max(FORMATS)}: a later release made it."


class Stored(Func):
    """The value of a column as it is stored."""

    template = "%(expressions)s"

    def __init__(self, column: str, kind: Kind) -> None:
        super().__init__(F(column), output_field=TextField())
        self._sql = kind.sql

    def as_sql(self, compiler: Any, connection: BaseDatabaseWrapper, *args: Any, **options: Any) -> Any:
        # On SQLite the sign does nothing, but hides the column's type, by which its driver converts values.
        template = "+%(expressions)s" if connection.vendor == "sqlite" else self._sql.get(connection.vendor)
        return super().as_sql(compiler, connection, *args, **{**options, "template": template})


class Reader:
    """Reads columns as they are stored, from one database."""

    def __init__(self, columns: Mapping[str, Kind], alias: str) -> None:
        self._connection = connections[alias]
        self._expressions = [Stored(column, kind) for column, kind in columns.items()]
        self._writings = [kind.writing(self._connection) for kind in columns.values()]

    def written(self, values: Sequence[Any]) -> Row:
        """Return a row that was read, as it is written down."""
        return [
            value if value is None or type(value) is plain else write(value)
            for value, (plain, write) in zip(values, self._writings, strict=True)
        ]

    def rows(self, rows: QuerySet[Any], most: int | None = None) -> Iterator[Row]:
        """Yield the rows, of which the first column is the primary key and the order; at most so many."""
        read, last = 0, None
        try:
            for row in self._read(rows[:most]):
                yield row
                read, last = read + 1, row[0]
            return
        except OperationalError as error:
            if "decode to UTF-8" not in str(error):
                raise
        rest = rows if last is None else rows.filter(pk__gt=last)
        with _text_that_is_not_unicode(self._connection):
            yield from self._read(rest[: None if most is None else most - read])

    def _read(self, rows: QuerySet[Any]) -> Iterator[Row]:
        return map(self.written, rows.values_list(*self._expressions).iterator())


@contextmanager
def _text_that_is_not_unicode(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Read text that is not UTF-8, which SQLite stores, with a surrogate for each byte, which no other text has."""
    driver: Any = connection.connection
    usual, driver.text_factory = driver.text_factory, partial(str, encoding="utf-8", errors="surrogateescape")
    try:
        yield
    finally:
        driver.text_factory = usual


def is_blank(column: str, value: Any) -> bool:
    """Tell whether a row of the log has nothing in that column: what it holds that was written before there was one."""
    field: Any = AuditEvent._meta.get_field(column)
    return value in (None, "") or (field.has_default() and value == field.get_default())
