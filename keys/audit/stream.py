"""The Redis stream of the audit log: the format of an entry, and how a request appends one.

An entry is a whole row as JSON, under `row`; an outcome or a new count is the whole row again. Its random ticket and
its time identify the row, so entries may be shipped in any order and repeatedly: the one with an outcome wins, and the
higher count. Whatever is in the stream is not shipped yet; nothing else trims it.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any
from urllib.parse import parse_qsl, urlencode

from django.db import OperationalError, connections, router

from .. import moments
from ..conf import conf
from ..models import APIKey
from ..models.audit_event import BLANK, Row
from .outcomes import UNWRITTEN, Backlog, Batch, CountedRow, RowHandle
from .places import Place, has_schemas
from .servers import AddressError, Servers

DEFAULT_NAME = "keys:audit"
GROUP = "keys_ship"  # the consumer group of the shippers
COUNT_DELAY = 1.0  # seconds before the count of a flood is appended again

APPEND = """
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then return false end
return redis.call('XADD', KEYS[1], '*', 'row', ARGV[2])
"""


class BacklogFullError(OperationalError):
    """The stream holds as many entries as `KEYS["AUDIT_BACKLOG_LIMIT"]` allows."""


class Stream:
    """A stream on a Redis server, and beside it the stream of the entries that could not be shipped.

    The address has one of the forms of `servers`, such as `redis://host:6379/0`; its query may name the stream,
    `?stream=keys:audit`, and say in how many replicas a use must be before its view runs, `&replicas=1`. `options` of
    redis-py override those in the query. Raises ValueError or TypeError for an invalid address. Connects on first use,
    in each process.
    """

    def __init__(self, address: str, **options: Any) -> None:
        server, _, query = address.partition("?")
        parameters = dict(parse_qsl(query, keep_blank_values=True))
        self.name = parameters.pop("stream", DEFAULT_NAME)
        if not self.name:
            raise AddressError("The address of a Redis stream names no stream.")
        replicas = parameters.pop("replicas", "0")
        if not (replicas.isascii() and replicas.isdecimal()):
            raise AddressError("The number of replicas in the address of a Redis stream is no number.")
        self.set_aside = f"{self.name}:set-aside"
        self.servers = Servers(f"{server}?{urlencode(parameters)}", self.name, int(replicas), options)
        self.client = self.servers.client
        self._append = self.client.register_script(APPEND)

    def append(self, row: Row, limit: int) -> None:
        """Append a row's first entry. Raises StreamError, or BacklogFullError if there are `limit` entries already."""
        arguments: list[str | int] = [limit, encode(row)]
        append = partial(self.servers.call, self._append, [self.name], arguments, replicated=True)
        if self.servers.run(append) is None:
            raise BacklogFullError("The backlog of the audit log has reached its limit.")

    def append_again(self, rows: Sequence[Row]) -> None:
        """Append further entries of rows, all or none. No limit: a use needs its outcome. Raises StreamError."""
        entries = [{"row": encode(row)} for row in rows]

        def append() -> None:
            with self.client.pipeline(transaction=len(entries) > 1) as pipeline:
                for entry in entries:
                    pipeline.xadd(self.name, entry)
                pipeline.execute()

        self.servers.run(append)

    def length(self) -> int:
        """Return the number of entries that are not shipped yet. Raises StreamError."""
        return int(self.servers.run(lambda: self.client.xlen(self.name)))

    def waiting_since(self) -> datetime | None:
        """Return when the oldest entry was appended, by Redis's clock; None if there is none. Raises StreamError."""
        oldest = self.servers.run(lambda: self.client.xrange(self.name, count=1))
        return datetime.fromtimestamp(int(oldest[0][0].partition(b"-")[0]) / 1000, UTC) if oldest else None


class SeveralLogsError(OperationalError):
    """Each tenant has a log of its own, and the entries of a stream do not say whose they are."""


class StreamSink:
    """Appends rows to a stream. They are as durable as its Redis, and reach the table when they are shipped."""

    shares_key_database = False

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._place = Place(stream.name)
        self._counts = Backlog(lambda place: True, self._write_counts)

    def place(self) -> Place:
        return self._place

    def insert(self, row: Row) -> RowHandle:
        if has_schemas(connections[router.db_for_write(APIKey)]):
            raise SeveralLogsError("A stream serves one log, and here each tenant has its own.")
        ticket = secrets.randbits(63)
        self._stream.append({**row, "ticket": ticket}, conf.AUDIT_BACKLOG_LIMIT)
        return RowHandle(ticket, row["at"], self._place)

    def add_outcome(self, handle: RowHandle, row: Row, may_be_gone: bool) -> None:
        self._stream.append_again([{**row, "ticket": handle.number}])

    def count_again(self, counted: CountedRow) -> bool:
        self.count_later(counted, 1)
        return True

    def count_later(self, counted: CountedRow, times: int) -> None:
        self._counts.add_count(counted, COUNT_DELAY, times)

    def existing(self, handles: Sequence[RowHandle]) -> set[RowHandle]:
        # No rollback removes an entry.
        return {*handles}

    def _write_counts(self, batch: Batch) -> None:
        if self._stream.length() >= conf.AUDIT_BACKLOG_LIMIT:
            raise BacklogFullError("The backlog of the audit log has reached its limit.")
        rows = [(row, times) for row, times in batch.counts.items() if isinstance(row, CountedRow)]
        counts = {row: times if row.number == UNWRITTEN else row.row["count"] + times for row, times in rows}
        self._stream.append_again(
            [{**row.row, "count": count, "ticket": row.number or secrets.randbits(63)} for row, count in counts.items()]
        )
        for row, count in counts.items():
            row.row["count"] = count


@cache
def stream_at(address: str) -> Stream:
    """Return the stream at that address, with the timeouts of requests."""
    return Stream(address)


@cache
def sink_at(address: str) -> StreamSink:
    """Return the sink at that address."""
    return StreamSink(stream_at(address))


def encode(row: Row) -> str:
    """Return the row, with its ticket, as JSON without its blank columns."""
    known = {name: value for name, value in row.items() if name not in BLANK or value != BLANK[name]}
    at = moments.instant(row["at"]).isoformat()
    return json.dumps({**known, "at": at}, ensure_ascii=False, separators=(",", ":"))


def decode(fields: Mapping[bytes, bytes]) -> Row:
    """Return the row of an entry, with its ticket. The database accepts it, or refuses it as invalid data.

    Raises ValueError, LookupError or TypeError if the entry holds no row.
    """
    known = json.loads(fields[b"row"])
    at = datetime.fromisoformat(known["at"])
    row: Row = {**BLANK, **known, "at": moments.kept(at)}
    if at.tzinfo is None or row.keys() - BLANK.keys() != {"ticket"}:
        raise ValueError("An entry's time has no zone, or it has a field that is not known here.")
    for name, value in row.items():
        if isinstance(value, str):
            value.encode()
        elif name != "at" and value is not None and type(value) is not int:
            raise TypeError(f"{name} is neither text nor a number.")
    if not isinstance(row["ticket"], int):
        raise TypeError("The ticket is no number.")
    return row
