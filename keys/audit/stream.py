"""The Redis stream that the audit log may go through: what an entry is, how a request appends one, and what waits.

An entry is a whole row as JSON, under `row`. What is appended later, the outcome of a use or the count of a flood, is
the whole row again. They are known as the same by the row's ticket, which is random, and its time. So entries may be
written to the database in any order and any number of times: of two the one with an outcome counts, and the higher
count. What is in the stream has not been shipped; nothing else trims it.
"""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlencode

from django.db import OperationalError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from ..conf import conf
from ..models.audit_event import BLANK, Row
from .outcomes import Backlog, Batch, CountedRow, RowHandle

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

    shares_key_database = False

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._counts = Backlog(lambda: True, self._write_counts)

    def insert(self, row: Row) -> RowHandle:
        ticket = secrets.randbits(63)
        self._stream.append({**row, "ticket": ticket}, conf.AUDIT_BACKLOG_LIMIT)
        return RowHandle(ticket, row["at"])

    def add_outcome(self, handle: RowHandle, row: Row, may_be_gone: bool) -> None:
        self._stream.append_again([{**row, "ticket": handle.number}])

    def count_again(self, counted: CountedRow) -> bool:
        self._counts.add_count(counted, COUNT_DELAY)
        return True

    def all_exist(self, handles: Sequence[RowHandle]) -> bool:
        # No transaction takes an entry back.
        return True

    def _write_counts(self, batch: Batch) -> None:
        if self._stream.length() >= conf.AUDIT_BACKLOG_LIMIT:
            raise BacklogFullError("The backlog of the audit log has reached its limit.")
        counts = {row: row.row["count"] + times for row, times in batch.counts.items() if isinstance(row, CountedRow)}
        self._stream.append_again([{**row.row, "count": count, "ticket": row.number} for row, count in counts.items()])
        for row, count in counts.items():
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


@dataclass(frozen=True)
class Consumer:
    """A shipper, or what is left of one: what it has in its hands, and how long ago it was last heard of."""

    name: str
    pending: int
    idle_seconds: float


@dataclass(frozen=True)
class Lag:
    """The state of a stream.

    `waiting` entries have not been shipped, `pending` of them are in the hands of a shipper, and the oldest of them
    has waited for `oldest_seconds`; `set_aside` could not be shipped. `fsync` is Redis's `appendfsync`, empty without
    an append-only file, and `eviction` its `maxmemory-policy`; None where Redis does not tell.
    """

    waiting: int
    limit: int
    pending: int
    oldest_seconds: float
    set_aside: int
    fsync: str | None
    eviction: str | None
    consumers: list[Consumer] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """What needs somebody to look at it, a sentence each."""
        sentences = []
        if self.waiting >= self.limit:
            sentences.append(f"The backlog has reached its limit of {self.limit} entries: uses are refused.")
        if self.set_aside:
            sentences.append(f"{self.set_aside} entries could not be shipped and are set aside.")
        if (self.eviction or "").startswith("allkeys"):
            sentences.append(f"Redis may drop the stream when its memory is full (maxmemory-policy {self.eviction}).")
        if self.fsync == "":
            sentences.append("Redis has no append-only file: what waits is lost when it is restarted.")
        return sentences


def measure(stream: Stream) -> Lag:
    """Ask Redis how far the shippers are behind. Raises RedisError."""
    with stream.client.pipeline(transaction=False) as pipeline:  # a Redis that is full would refuse a transaction
        pipeline.xlen(stream.name)
        pipeline.xrange(stream.name, count=1)
        pipeline.xlen(stream.set_aside)
        pipeline.time()
        waiting, oldest, set_aside, (seconds, microseconds) = pipeline.execute()
    now = seconds * 1000 + microseconds // 1000
    since = int(oldest[0][0].partition(b"-")[0]) if oldest else now
    consumers = _consumers(stream)
    return Lag(
        waiting=waiting,
        limit=conf.AUDIT_BACKLOG_LIMIT,
        pending=sum(consumer.pending for consumer in consumers),
        oldest_seconds=max(0, now - since) / 1000,
        set_aside=set_aside,
        fsync=_fsync(stream),
        eviction=_told(stream, "memory").get("maxmemory_policy"),
        consumers=consumers,
    )


def _consumers(stream: Stream) -> list[Consumer]:
    try:
        known = stream.client.xinfo_consumers(stream.name, GROUP)
    except ResponseError:
        # Nothing was ever written, or shipped.
        return []
    return [Consumer(each["name"].decode(), each["pending"], each["idle"] / 1000) for each in known]


def _fsync(stream: Stream) -> str | None:
    if _told(stream, "persistence").get("aof_enabled") == 0:
        return ""
    try:
        return str(stream.client.config_get("appendfsync")["appendfsync"])
    except (ResponseError, KeyError):
        return None


def _told(stream: Stream, section: str) -> dict[str, Any]:
    """Return what Redis says of itself: nothing where it is somebody else's service and keeps that to itself."""
    try:
        return dict(stream.client.info(section))
    except ResponseError:
        return {}
