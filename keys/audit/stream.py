"""The Redis stream of the audit log: how a request appends an entry, and whose stream it is.

An entry is a whole row as JSON, under `row`; an outcome or a new count is the whole row again. Its random ticket and
its time identify the row, so entries may be shipped in any order and repeatedly: the one with an outcome wins, and the
higher count. Whatever is in the stream is not shipped yet; nothing else trims it. A stream belongs to the log that used
it first, whose id is kept beside it.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any
from urllib.parse import parse_qsl, urlencode

from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.db import OperationalError, connections, router

from .. import moments
from ..conf import NO_SINK, conf
from ..models import APIKey
from ..models.audit_event import Row
from . import log_identity
from .entries import TIMES, EntryError, decode, encode
from .log_identity import LogIdentityError
from .outcomes import Backlog, Batch, CountedRow, RowHandle, new_ticket
from .places import Place, has_schemas
from .servers import AddressError, Servers

DEFAULT_NAME = "keys:audit"
GROUP = "keys_ship"  # the consumer group of the shippers
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
        self.set_aside, self.owner_key = _beside(self.name, "set-aside"), _beside(self.name, "log")
        self.servers = Servers(f"{server}?{urlencode(parameters)}", self.name, int(replicas), options)
        self.client = self.servers.client
        self._append, self._hand_over = map(self.client.register_script, (APPEND, HAND_OVER))

    def append(self, row: Row, limit: int) -> None:
        """Append a row's first entry.

        Raises StreamError, BacklogFullError if there are `limit` entries already, or LogIdentityError if the stream is
        not this log's.
        """
        self._add_as([row], limit, log_identity.current())

    def append_again(self, rows: Sequence[Row]) -> None:
        """Append further entries of rows, all or none. No limit: a use needs its outcome. Raises as `append` does."""
        self._add_as(rows, "", log_identity.last())

    def _add_as(self, rows: Sequence[Row], limit: int | str, log: str) -> None:
        """Append as this log, or as what another process has made of it since this one read its id."""
        try:
            self._add(rows, limit, log)
        except ForeignStreamError as foreign:
            try:
                now = log_identity.current()
            except SynchronousOnlyOperation:  # an event loop must not be blocked by a query
                raise foreign from None
            if now == log:
                raise
            self._add(rows, limit, now)

    def _add(self, rows: Sequence[Row], limit: int | str, log: str) -> None:
        arguments = [log, limit, *map(encode, rows)]
        names = [self.name, self.owner_key]
        # An outcome or a count is not waited for.
        append = partial(self.servers.call, self._append, names, arguments, replicated=limit != "")
        answer = self.servers.run(append)
        if answer is None:
            if self.owner() not in (None, log):
                log_identity.forget()
                raise ForeignStreamError(self.name)
            raise BacklogFullError("The backlog of the audit log has reached its limit.")

    def owner(self) -> str | None:
        """Return the id of the log that the stream belongs to; None if nobody has used it. Raises StreamError."""
        owner: bytes | None = self.servers.run(lambda: self.client.get(self.owner_key))
        return None if owner is None else owner.decode(errors="replace")

    def hand_over(self, log: str, before: Collection[str] = ()) -> None:
        """Give the stream to a log if nobody or one of the logs `before` has it; else raise ForeignStreamError.

        Raises StreamError.
        """
        # Read first: a full Redis would refuse the script, and shipping makes room.
        if self.owner() == log:
            return
        if not self.servers.run(lambda: self._hand_over([self.owner_key], [log, *before])):
            raise ForeignStreamError(self.name)

    def take(self, log: str) -> None:
        """Give the stream to a log, whoever has it. Raises StreamError."""
        self.servers.run(lambda: self.client.set(self.owner_key, log))

    def length(self) -> int:
        """Return the number of entries that are not shipped yet. Raises StreamError."""
        return int(self.servers.run(lambda: self.client.xlen(self.name)))

    def waiting_since(self) -> datetime | None:
        """Return when the oldest entry was appended; None if there is none. Raises StreamError."""
        oldest = self.servers.run(lambda: self.client.xrange(self.name, count=1))
        return appended_at(oldest[0], datetime.now(UTC)) if oldest else None


def appended_at(entry: tuple[bytes, Mapping[bytes, bytes]], now: datetime) -> datetime:
    """Return when an entry was appended, by its id.

    Once an id is of the future, by a wrong clock or by somebody's choice, so are all that follow. Then it is the time
    of the entry's row, and of one that holds none, the earliest of all.
    """
    number, fields = entry
    milliseconds = int(number.partition(b"-")[0])
    if milliseconds <= now.timestamp() * 1000:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    try:
        return moments.instant(decode(fields)["at"])
    except EntryError:
        return TIMES[0]


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
    """Return the stream at that address, with the timeouts of requests. Raises ImproperlyConfigured."""
    try:
        return Stream(address)
    except (TypeError, ValueError) as error:
        # Without its cause, whose text may hold a part of the address, and so of a password.
        sentence = f'KEYS["AUDIT_SINK"]: {error}' if isinstance(error, AddressError) else NO_SINK.message
    raise ImproperlyConfigured(sentence)


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

    Raises AddressError if the stream's name allows none.
    """
    _, opened, rest = name.partition("{")
    tag, closed, _ = rest.partition("}")
    if opened and tag and closed:
        return f"{name}:{what}"
    if "}" in name:
        raise AddressError("The name of a Redis stream has a } that ends no hash tag.")
    return f"{{{name}}}:{what}"
