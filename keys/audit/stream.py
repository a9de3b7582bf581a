"""The Redis stream of the audit log: the format of an entry, how a request appends one, and how to measure the lag.

An entry is a whole row as JSON, under `row`; an outcome or a new count is the whole row again. Its random ticket and
its time identify the row, so entries may be shipped in any order and repeatedly: the one with an outcome wins, and the
higher count. Whatever is in the stream is not shipped yet; nothing else trims it.
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

from django.db import OperationalError, connections, router
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from .. import moments
from ..conf import conf
from ..models import APIKey
from ..models.audit_event import BLANK, Row
from .outcomes import Backlog, Batch, CountedRow, RowHandle
from .places import Place, has_schemas

DEFAULT_NAME = "keys:audit"
GROUP = "keys_ship"  # the consumer group of the shippers
TIMEOUTS = {"socket_connect_timeout": 1, "socket_timeout": 2}  # seconds; the address may set others
COUNT_DELAY = 1.0  # seconds before the count of a flood is appended again

APPEND = """
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then return false end
return redis.call('XADD', KEYS[1], '*', 'row', ARGV[2])
"""


class StreamError(OperationalError):
    """Redis could not be written. One of Django's errors, so that callers handle both sinks alike."""


class BacklogFullError(OperationalError):
    """The stream holds as many entries as `KEYS["AUDIT_BACKLOG_LIMIT"]` allows."""


class Stream:
    """A stream on a Redis server, and beside it the stream of the entries that could not be shipped.

    The address is in redis-py's form, such as `redis://host:6379/0`; its query may name the stream:
    `?stream=keys:audit`. `options` of redis-py override those in the query. Raises ValueError or TypeError for an
    invalid address. Connects on first use, in each process.
    """

    def __init__(self, address: str, **options: Any) -> None:
        server, _, query = address.partition("?")
        parameters = dict(parse_qsl(query, keep_blank_values=True))
        self.name = parameters.pop("stream", DEFAULT_NAME)
        if not self.name:
            raise ValueError("The address of a Redis stream names no stream.")
        self.set_aside = f"{self.name}:set-aside"
        # No retries: they would add load to a slow Redis.
        once: Any = {"retry": Retry(NoBackoff(), 0), "protocol": 2}
        # redis-py's type hints do not fit every version of Redis.
        self.client: Any = Redis.from_url(f"{server}?{urlencode(parameters)}", **once, **TIMEOUTS)
        pool = self.client.connection_pool
        pool.connection_kwargs.update(options)
        # Raises for an option that redis-py does not know, which otherwise the first request would.
        pool.connection_class(**pool.connection_kwargs)
        self._append = self.client.register_script(APPEND)

    def append(self, row: Row, limit: int) -> None:
        """Append a row's first entry. Raises StreamError, or BacklogFullError if there are `limit` entries already."""
        with _redis_errors_as_ours():
            entry = self._append([self.name], [limit, encode(row)])
        if entry is None:
            raise BacklogFullError("The backlog of the audit log has reached its limit.")

    def append_again(self, rows: Sequence[Row]) -> None:
        """Append further entries of rows, all or none. No limit: a use needs its outcome. Raises StreamError."""
        with _redis_errors_as_ours(), self.client.pipeline(transaction=len(rows) > 1) as pipeline:
            for row in rows:
                pipeline.xadd(self.name, {"row": encode(row)})
            pipeline.execute()

    def length(self) -> int:
        """Return the number of entries that are not shipped yet. Raises StreamError."""
        with _redis_errors_as_ours():
            return int(self.client.xlen(self.name))

    def waiting_since(self) -> datetime | None:
        """Return when the oldest entry was appended, by Redis's clock; None if there is none. Raises StreamError."""
        with _redis_errors_as_ours():
            oldest = self.client.xrange(self.name, count=1)
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

    def may_be_rolled_back(self) -> bool:
        return False

    def count_again(self, counted: CountedRow) -> bool:
        self.count_later(counted)
        return True

    def count_later(self, counted: CountedRow) -> None:
        self._counts.add_count(counted, COUNT_DELAY)

    def existing(self, handles: Sequence[RowHandle]) -> set[RowHandle]:
        # No rollback removes an entry.
        return {*handles}

    def _write_counts(self, batch: Batch) -> None:
        if self._stream.length() >= conf.AUDIT_BACKLOG_LIMIT:
            raise BacklogFullError("The backlog of the audit log has reached its limit.")
        self._stream.append_again(
            [{**row.row, "count": count, "ticket": row.number} for row, count in batch.counts.items()]
        )


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


@contextmanager
def _redis_errors_as_ours() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise StreamError(type(error).__name__) from error


@dataclass(frozen=True)
class Consumer:
    """A shipper, alive or dead: the number of its pending entries, and the seconds since its last command."""

    name: str
    pending: int
    idle_seconds: float


@dataclass(frozen=True)
class Lag:
    """The state of a stream.

    `waiting` entries are not shipped yet, `pending` of them were delivered to a consumer, and the oldest is
    `oldest_seconds` old; `set_aside` could not be shipped. `fsync` is Redis's `appendfsync`, empty without an
    append-only file, and `eviction` its `maxmemory-policy`; None if Redis does not tell.
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
        """What needs attention, one sentence each."""
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
    """Return how far the shippers are behind. Raises RedisError."""
    with stream.client.pipeline(transaction=False) as pipeline:  # a full Redis would refuse a transaction
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
        eviction=_info(stream, "memory").get("maxmemory_policy"),
        consumers=consumers,
    )


def _consumers(stream: Stream) -> list[Consumer]:
    try:
        known = stream.client.xinfo_consumers(stream.name, GROUP)
    except ResponseError:
        # The stream or its group does not exist yet.
        return []
    return [Consumer(each["name"].decode(), each["pending"], each["idle"] / 1000) for each in known]


def _fsync(stream: Stream) -> str | None:
    if _info(stream, "persistence").get("aof_enabled") == 0:
        return ""
    try:
        return str(stream.client.config_get("appendfsync")["appendfsync"])
    except (ResponseError, KeyError):
        return None


def _info(stream: Stream, section: str) -> dict[str, Any]:
    """Return a section of Redis's INFO; empty if a hosted Redis does not allow the command."""
    try:
        return dict(stream.client.info(section))
    except ResponseError:
        return {}
