"""The Redis stream of the audit log: how a request appends an entry, whose stream it is, and how to measure the lag.

An entry is a whole row as JSON, under `row`; an outcome or a new count is the whole row again. Its random ticket and
its time identify the row, so entries may be shipped in any order and repeatedly: the one with an outcome wins, and the
higher count. Whatever is in the stream is not shipped yet; nothing else trims it. A stream belongs to the log that used
it first, whose id is kept beside it.
"""

from collections.abc import Collection, Iterator, Sequence
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

from ..conf import conf
from ..models import APIKey
from ..models.audit_event import Row
from . import log_identity
from .entries import encode, new_ticket
from .log_identity import LogIdentityError
from .outcomes import UNWRITTEN, Backlog, Batch, CountedRow, RowHandle
from .places import Place, has_schemas

DEFAULT_NAME = "keys:audit"
GROUP = "keys_ship"  # the consumer group of the shippers
TIMEOUTS = {"socket_connect_timeout": 1, "socket_timeout": 2}  # seconds; the address may set others
COUNT_DELAY = 1.0  # seconds before the count of a flood is appended again

# The stream becomes that of the first log that appends. Appends nothing, and returns nothing, if too many entries wait
# or the stream is another log's.
APPEND = """
local owner = redis.call('GET', KEYS[2])
if owner and owner ~= ARGV[1] then return false end
if ARGV[2] ~= '' and redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[2]) then return false end
if not owner then redis.call('SET', KEYS[2], ARGV[1]) end
for i = 3, #ARGV do redis.call('XADD', KEYS[1], '*', 'row', ARGV[i]) end
return 1
"""
# Gives the stream to the first id, if nobody or one of the further ids has it.
HAND_OVER = """
local owner = redis.call('GET', KEYS[1])
for i = 1, #ARGV do
    if not owner or owner == ARGV[i] then
        redis.call('SET', KEYS[1], ARGV[1])
        return 1
    end
end
return 0
"""


class StreamError(OperationalError):
    """Redis could not be written. One of Django's errors, so that callers handle both sinks alike."""


class BacklogFullError(OperationalError):
    """The stream holds as many entries as `KEYS["AUDIT_BACKLOG_LIMIT"]` allows."""


class ForeignStreamError(LogIdentityError):
    """The stream belongs to another log."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The stream {name} belongs to the audit log of another database. Name another one in"
            ' KEYS["AUDIT_SINK"] (?stream=...), or run `keys_ship --take-stream` if that database is no more.'
        )


class Stream:
    """A stream on a Redis server. Beside it are the entries that could not be shipped, and the id of its log.

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
        self.set_aside, self.owner_key = _beside(self.name, "set-aside"), _beside(self.name, "log")
        # No retries: they would add load to a slow Redis.
        once: Any = {"retry": Retry(NoBackoff(), 0), "protocol": 2}
        # redis-py's type hints do not fit every version of Redis.
        self.client: Any = Redis.from_url(f"{server}?{urlencode(parameters)}", **once, **TIMEOUTS)
        pool = self.client.connection_pool
        pool.connection_kwargs.update(options)
        # Raises for an option that redis-py does not know, which otherwise the first request would.
        pool.connection_class(**pool.connection_kwargs)
        self._append, self._hand_over = map(self.client.register_script, (APPEND, HAND_OVER))

    def append(self, row: Row, limit: int) -> None:
        """Append a row's first entry.

        Raises StreamError, BacklogFullError if there are `limit` entries already, or LogIdentityError if the stream is
        not this log's.
        """
        log = log_identity.current()
        try:
            self._add([row], limit, log)
        except ForeignStreamError:
            # Another process may have given the log a new id since this one read it.
            if log_identity.current() == log:
                raise
            self._add([row], limit, log_identity.current())

    def append_again(self, rows: Sequence[Row]) -> None:
        """Append further entries of rows, all or none. No limit: a use needs its outcome. Raises as `append` does."""
        self._add(rows, "", log_identity.last())

    def _add(self, rows: Sequence[Row], limit: int | str, log: str) -> None:
        arguments = [log, limit, *map(encode, rows)]
        with _redis_errors_as_ours():
            answer = self._append([self.name, self.owner_key], arguments)
        if answer is None:
            if self.owner() not in (None, log):
                log_identity.forget()
                raise ForeignStreamError(self.name)
            raise BacklogFullError("The backlog of the audit log has reached its limit.")

    def owner(self) -> str | None:
        """Return the id of the log that the stream belongs to; None if nobody has used it. Raises StreamError."""
        with _redis_errors_as_ours():
            owner: bytes | None = self.client.get(self.owner_key)
        return None if owner is None else owner.decode(errors="replace")

    def hand_over(self, log: str, before: Collection[str] = ()) -> None:
        """Give the stream to a log if nobody or one of the logs `before` has it; else raise ForeignStreamError.

        Raises StreamError.
        """
        # Read first: a full Redis would refuse the script, and shipping makes room.
        if self.owner() == log:
            return
        with _redis_errors_as_ours():
            is_given = self._hand_over([self.owner_key], [log, *before])
        if not is_given:
            raise ForeignStreamError(self.name)

    def take(self, log: str) -> None:
        """Give the stream to a log, whoever has it. Raises StreamError."""
        with _redis_errors_as_ours():
            self.client.set(self.owner_key, log)

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
        ticket = new_ticket(row["at"])
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
            [{**row.row, "count": count, "ticket": row.number or new_ticket(row.at)} for row, count in counts.items()]
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


def refusal(stream: Stream) -> str:
    """Return why this database's log may not use the stream, as a sentence; empty if it may.

    Changes nothing in Redis. Raises StreamError.
    """
    try:
        log = log_identity.read()
        if stream.owner() not in (None, log):
            raise ForeignStreamError(stream.name)
    except LogIdentityError as error:
        return str(error)
    return ""


def _beside(name: str, what: str) -> str:
    """Return the name of a key that a Redis in cluster mode keeps in the same slot as the stream.

    Raises ValueError if the stream's name allows none.
    """
    _, opened, rest = name.partition("{")
    tag, closed, _ = rest.partition("}")
    if opened and tag and closed:
        return f"{name}:{what}"
    if "}" in name:
        raise ValueError("The name of a Redis stream has a } that ends no hash tag.")
    return f"{{{name}}}:{what}"


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
