"""From the stream into the table: what `keys_ship` does, any number of processes at once.

Entries are taken by a consumer group, written in one transaction, and only then acknowledged and deleted. Whoever
dies in between leaves entries that another takes over, and writes once more to no effect.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic, sleep

from django.db import DataError, Error, IntegrityError, connections, router
from redis.exceptions import RedisError, ResponseError

from ..models import APIKey
from ..models.audit_event import Row
from ..redaction import printable
from . import statements
from .stream import GROUP, Stream, decode

logger = logging.getLogger("api_keys")

BATCH_SIZE = 500
# Between two looks at a stream that had less than a batch, in seconds. Uses that end meanwhile are written in one go.
PAUSE = 0.5
LONGEST_PAUSE = 30.0
# After how long what another took and did not finish is taken over.
CLAIM_AFTER = timedelta(minutes=1)
# A consumer that was not heard of for so long, and has nothing in its hands, is gone.
FORGET_AFTER = timedelta(minutes=10)

# What an entry that is set aside holds besides: its id, and what stood in its way.
ADDED = (b"entry", b"error")

Fields = dict[bytes, bytes]
Entry = tuple[bytes, Fields | None]
Refused = tuple[bytes, Fields, Exception]
Name = tuple[int, datetime]


@dataclass
class Shipped:
    """What became of the entries so far: how many were written, and how many were set aside."""

    written: int = 0
    set_aside: int = 0


class Shipper:
    """One member of the group. `must_stop` is asked between two batches."""

    def __init__(
        self,
        stream: Stream,
        *,
        batch_size: int = BATCH_SIZE,
        claim_after: timedelta = CLAIM_AFTER,
        must_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._stream, self._redis = stream, stream.client
        self._batch_size, self._must_stop = batch_size, must_stop
        self._claim_after = round(claim_after.total_seconds() * 1000)
        self.consumer = f"{socket.gethostname()}-{os.getpid()}"
        self._is_member = False
        self.shipped = Shipped()

    def run_once(self) -> None:
        """Ship until nothing is left that is not in the hands of another. Raises the errors of both servers."""
        while not self._must_stop() and self.ship_batch():
            pass

    def run(self) -> None:
        """Ship until it is time to stop; where a server is away, say so once and try again, less and less often."""
        away, pause = "", PAUSE
        while not self._must_stop():
            try:
                is_behind = self.ship_batch() == self._batch_size
                if away:
                    logger.warning("The audit log is shipped again.")
                away, pause = "", 0.0 if is_behind else PAUSE
            except (RedisError, Error) as error:
                server = "Redis" if isinstance(error, RedisError) else "the database"
                if server != away:
                    logger.error("The audit log is not shipped: %s says %s. Trying again.", server, told(error))
                away, pause = server, min(max(PAUSE, pause * 2), LONGEST_PAUSE)
                self._is_member = False
                connections[router.db_for_write(APIKey)].close()
            self._rest(pause)

    def _rest(self, seconds: float) -> None:
        until = monotonic() + seconds
        while not self._must_stop() and (left := until - monotonic()) > 0:
            sleep(min(left, PAUSE))

    def ship_batch(self) -> int:
        """Ship one batch and return how many entries it had: 0 where nothing is left for this shipper."""
        if not self._is_member:
            self._join()
        entries = self._take()
        if entries:
            self._ship(entries)
        else:
            self._find_what_nobody_has()
        return len(entries)

    def _join(self) -> None:
        if not self._is_there():
            with suppress(ResponseError):  # another was faster; whatever else it is, the next command says so too
                self._redis.xgroup_create(self._stream.name, GROUP, id="0", mkstream=True)
        forgotten = FORGET_AFTER.total_seconds() * 1000
        for consumer in self._redis.xinfo_consumers(self._stream.name, GROUP):
            if consumer["pending"] == 0 and consumer["idle"] > forgotten:
                self._redis.xgroup_delconsumer(self._stream.name, GROUP, consumer["name"])
        self._find_what_nobody_has()
        self._is_member = True

    def _is_there(self) -> bool:
        # Asked first, because a Redis that is full would refuse to create it, and shipping makes room.
        try:
            groups = self._redis.xinfo_groups(self._stream.name)
        except ResponseError:
            return False
        return any(group["name"] == GROUP.encode() for group in groups)

    def _take(self) -> list[Entry]:
        """Take a batch: what this consumer left unfinished, what others did, or else what is new."""
        stream, count = self._stream.name, self._batch_size
        if mine := self._read("0"):
            return mine
        claimed = self._redis.xautoclaim(stream, GROUP, self.consumer, self._claim_after, count=count)[1]
        return [(entry, fields) for entry, fields in claimed if entry is not None] or self._read(">")

    def _read(self, position: str) -> list[Entry]:
        answer = self._redis.xreadgroup(GROUP, self.consumer, {self._stream.name: position}, count=self._batch_size)
        entries: list[Entry] = answer[0][1] if answer else []
        return entries

    def _ship(self, entries: Iterable[Entry]) -> None:
        rows: dict[Name, Row] = {}
        sources: dict[Name, dict[bytes, Fields]] = {}
        refused: list[Refused] = []
        for entry, fields in entries:
            if not fields:
                # Its id was in somebody's hands when the entry was deleted.
                logger.error("Entry %s of the audit log was deleted from its stream unshipped.", entry.decode())
                self._redis.xack(self._stream.name, GROUP, entry)
                continue
            try:
                row = decode(fields)
            except Exception as error:  # whatever else may be in a stream
                refused.append((entry, fields, error))
                continue
            name = (row["ticket"], row["at"])
            rows[name] = _later(rows.get(name, row), row)
            sources.setdefault(name, {})[entry] = fields
        if rows:
            refused += self._write(rows, sources)
        # Last, because a Redis that is full takes nothing in before something has been shipped.
        for entry, fields, reason in refused:
            self._set_aside(entry, fields, reason)

    def _write(self, rows: Mapping[Name, Row], sources: Mapping[Name, Mapping[bytes, Fields]]) -> list[Refused]:
        """Write the rows, and return the entries of those that the database refuses as data."""
        try:
            statements.ship(list(rows.values()))
        except (DataError, IntegrityError) as error:
            if len(rows) > 1:
                return [each for name, row in rows.items() for each in self._write({name: row}, sources)]
            return [(entry, fields, error) for name in rows for entry, fields in sources[name].items()]
        self._finish([entry for name in rows for entry in sources[name]])
        return []

    def _finish(self, entries: Sequence[bytes]) -> None:
        # Not in a transaction, which a Redis that is full would refuse. What is acknowledged and, should this end
        # here, not deleted is in nobody's hands, and is found.
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.xack(self._stream.name, GROUP, *entries)
            pipeline.xdel(self._stream.name, *entries)
            pipeline.execute()
        self.shipped.written += len(entries)

    def _set_aside(self, entry: bytes, fields: Fields, error: Exception) -> None:
        """Keep what cannot be written where it stands in nobody's way."""
        logger.error(
            "Entry %s of the audit log cannot be written and is kept in %s: %s",
            entry.decode(), self._stream.set_aside, type(error).__name__,
        )  # fmt: skip
        with self._redis.pipeline() as pipeline:
            pipeline.xadd(self._stream.set_aside, {**fields, **dict(zip(ADDED, (entry, told(error)), strict=True))})
            pipeline.xack(self._stream.name, GROUP, entry)
            pipeline.xdel(self._stream.name, entry)
            pipeline.execute()
        self.shipped.set_aside += 1

    def _find_what_nobody_has(self) -> None:
        """Give out again what was given out, is not finished, and is in nobody's hands: its consumer was deleted."""
        # In this order: what was given out before it was in nobody's hands, and after that is there still.
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.xinfo_groups(self._stream.name)
            pipeline.xpending(self._stream.name, GROUP)
            pipeline.xrange(self._stream.name, count=1)
            groups, pending, oldest = pipeline.execute()
        given_out = [_place(each["last-delivered-id"]) for each in groups if each["name"] == GROUP.encode()]
        for entry, _ in oldest:
            in_hands = pending["min"] is not None and _place(pending["min"]) <= _place(entry)
            if not in_hands and any(_place(entry) <= last for last in given_out):
                # To give out what others have in their hands does no harm.
                self._redis.xgroup_setid(self._stream.name, GROUP, "0")


def retry(stream: Stream) -> int:
    """Put what was set aside back into the stream, and return how many entries that were."""
    last, retried = stream.client.xrevrange(stream.set_aside, count=1), 0
    while entries := stream.client.xrange(stream.set_aside, max=last[0][0], count=BATCH_SIZE) if last else []:
        for entry, fields in entries:
            with stream.client.pipeline() as pipeline:
                # With nothing else, so that what is set aside again is as it was.
                pipeline.xadd(stream.name, {name: value for name, value in fields.items() if name not in ADDED})
                pipeline.xdel(stream.set_aside, entry)
                pipeline.execute()
        retried += len(entries)
    return retried


def _later(one: Row, other: Row) -> Row:
    """Return the state of a row that knows more: an outcome, or a higher count."""
    return max(one, other, key=lambda row: (row["status"] is not None, row["count"]))


def _place(entry: bytes) -> tuple[int, int]:
    """Return the place of an entry in its stream, by its id."""
    milliseconds, _, number = entry.partition(b"-")
    return int(milliseconds), int(number)


def told(error: Exception) -> str:
    """Return what an error says, on one line."""
    return printable(f"{type(error).__name__}: {' '.join(str(error).split())}"[:200])
