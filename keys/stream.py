"""The Redis stream that the audit log may go through: what an entry is, and how a request appends one.

An entry is a whole row as JSON, under `row`. What is appended later, the outcome of a use or the count of a flood, is
the whole row again. They are known as the same by the row's ticket, which is random, and its time. So entries may be
written to the database in any order and any number of times: of two the one with an outcome counts, and the higher
count. What is in the stream has not been shipped; nothing else trims it.
"""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlencode

from django.db import OperationalError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from .backlog import Backlog, Batch, RowName, SharedRow
from .conf import conf
from .sql import BLANK
from .statements import Row

DEFAULT_NAME = "keys:audit"
# The consumer group of those who ship.
GROUP = "keys_ship"
# How long a request waits for Redis, in seconds; the address may say otherwise.
TIMEOUTS = {"socket_connect_timeout": 1, "socket_timeout": 2}
# How often the count of one flood is appended anew, in seconds.
COUNT_DELAY = 1.0

APPEND = """
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then return false end
return redis.call('XADD', KEYS[1], '*', 'row', ARGV[2])
"""


class StreamError(OperationalError):
    """Redis could not be written. One of Django's errors, so that whoever records a use treats both sinks alike."""


class BacklogFullError(OperationalError):
    """So much waits to be shipped that `KEYS["AUDIT_BACKLOG_LIMIT"]` lets nothing more in."""


class Stream:
    """One stream of one Redis server, and beside it the stream of the entries that could not be shipped.

    The address is one that redis-py takes, such as `redis://host:6379/0`, and its query may name the stream:
    `?stream=keys:audit`. `options` of redis-py come before those in the query. Raises ValueError or TypeError for an
    address that cannot be one. Connects on first use, and in each process for itself.
    """

    def __init__(self, address: str, **options: Any) -> None:
        server, _, query = address.partition("?")
        parameters = dict(parse_qsl(query, keep_blank_values=True))
        self.name = parameters.pop("stream", DEFAULT_NAME)
        if not self.name:
            raise ValueError("The address of a Redis stream names no stream.")
        self.set_aside = f"{self.name}:set-aside"
        # Requests that wait for another attempt are what a Redis that is slow needs least.
        once: Any = {"retry": Retry(NoBackoff(), 0), "protocol": 2}
        # What redis-py says of its types fits no single version of Redis.
        self.client: Any = Redis.from_url(f"{server}?{urlencode(parameters)}", **once, **TIMEOUTS)
        pool = self.client.connection_pool
        pool.connection_kwargs.update(options)
        # Finds an option that redis-py does not know, which otherwise the first request would.
        pool.connection_class(**pool.connection_kwargs)
        self._append = self.client.register_script(APPEND)

    def append(self, row: Row, limit: int) -> None:
        """Append the first entry of a row, unless so many entries are there already."""
        with _known_errors():
            entry = self._append([self.name], [limit, encode(row)])
        if entry is None:
            raise BacklogFullError("The backlog of the audit log has reached its limit.")

    def append_again(self, rows: Sequence[Row]) -> None:
        """Append further entries of rows, all or none, whatever the limit: what has begun is brought to its end."""
        with _known_errors(), self.client.pipeline(transaction=len(rows) > 1) as pipeline:
            for row in rows:
                pipeline.xadd(self.name, {"row": encode(row)})
            pipeline.execute()

    def length(self) -> int:
        """Return how many entries have not been shipped."""
        with _known_errors():
            return int(self.client.xlen(self.name))

    def waiting_since(self) -> datetime | None:
        """Return when the oldest entry that has not been shipped was appended, by Redis's clock; None without any."""
        with _known_errors():
            oldest = self.client.xrange(self.name, count=1)
        return datetime.fromtimestamp(int(oldest[0][0].partition(b"-")[0]) / 1000, UTC) if oldest else None


class StreamSink:
    """Appends rows to a stream. They are as safe as its Redis keeps them, and in the table when they are shipped."""

    is_key_store = False

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._counts = Backlog()
        self._counts.may_write, self._counts.write = (lambda: True), self._write_counts

    def insert(self, row: Row) -> int:
        ticket = secrets.randbits(63)
        self._stream.append({**row, "ticket": ticket}, conf.AUDIT_BACKLOG_LIMIT)
        return ticket

    def add_outcome(self, event_id: int, row: Row, may_be_gone: bool) -> None:
        self._stream.append_again([{**row, "ticket": event_id}])

    def count_again(self, shared: SharedRow) -> bool:
        self._counts.add_count(shared, COUNT_DELAY)
        return True

    def are_there(self, rows: Sequence[RowName]) -> bool:
        # No transaction takes an entry back.
        return True

    def _write_counts(self, batch: Batch) -> None:
        if self._stream.length() >= conf.AUDIT_BACKLOG_LIMIT:
            raise BacklogFullError("The backlog of the audit log has reached its limit.")
        counted = {row: row.row["count"] + times for row, times in batch.counts.items() if isinstance(row, SharedRow)}
        self._stream.append_again([{**row.row, "count": count, "ticket": row.id} for row, count in counted.items()])
        for row, count in counted.items():
            row.row["count"] = count


@cache
def stream_at(address: str) -> Stream:
    """Return the stream at that address, as requests use it."""
    return Stream(address)


@cache
def sink_at(address: str) -> StreamSink:
    """Return the sink at that address."""
    return StreamSink(stream_at(address))


def encode(row: Row) -> str:
    """Return the row, with its ticket, as JSON, without what is blank."""
    known = {name: value for name, value in row.items() if name not in BLANK or value != BLANK[name]}
    return json.dumps({**known, "at": row["at"].isoformat()}, ensure_ascii=False, separators=(",", ":"))


def decode(fields: Mapping[bytes, bytes]) -> Row:
    """Return the row that an entry holds, with its ticket. What passes here the database takes, or refuses as data.

    Raises ValueError, LookupError or TypeError where there is no row.
    """
    known = json.loads(fields[b"row"])
    row: Row = {**BLANK, **known, "at": datetime.fromisoformat(known["at"])}
    if row["at"].tzinfo is None or row.keys() - BLANK.keys() != {"ticket"}:
        raise ValueError("An entry's time has no zone, or it has a field that is not known here.")
    for name, value in row.items():
        if isinstance(value, str):
            value.encode()
        elif name != "at" and value is not None and type(value) is not int:
            raise TypeError(f"{name} is neither text nor a number.")
    if not isinstance(row["ticket"], int):
        raise TypeError("The ticket is no number.")
    return row


@contextmanager
def _known_errors() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise StreamError(type(error).__name__) from error
