"""Moves entries from the Redis stream into the table. `keys_ship` runs it, in any number of processes.

A consumer reads a batch through the consumer group, writes it in one transaction, and only then acknowledges and
deletes the entries. If it dies in between, another consumer claims the batch; writing it again changes nothing.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic, sleep
from typing import NamedTuple

from django.db import Error, connections, router
from redis.exceptions import RedisError, ResponseError

from ..models import APIKey
from ..models.audit_event import Row
from ..redaction import printable
from . import failures, log_identity, statements
from .entries import CONFLICT, EntryError, decode, merged
from .log_identity import LogIdentityError
from .servers import StreamError
from .stream import GROUP, Stream

logger = logging.getLogger("api_keys")

BATCH_SIZE = 500
PAUSE = 0.5  # seconds between batches that are not full, so that outcomes share a write with their use
LONGEST_PAUSE = 5.0
CLAIM_AFTER = timedelta(minutes=1)  # an entry that is pending for so long is claimed from its consumer
FORGET_AFTER = timedelta(minutes=10)  # a consumer that is idle for so long, with nothing pending, is deleted

ADDED = (b"entry", b"error")  # fields added to an entry that is set aside: its id and the error

Fields = dict[bytes, bytes]
Entry = tuple[bytes, Fields | None]
Refused = tuple[bytes, Fields, Exception]
Name = tuple[int, datetime]  # a row's ticket and time


class Taken(NamedTuple):
    """An entry that holds a row."""

    entry: bytes
    fields: Fields
    row: Row

    @property
    def name(self) -> Name:
        return self.row["ticket"], self.row["at"]

    def refused(self, error: Exception) -> Refused:
        return self.entry, self.fields, error


@dataclass
class Shipped:
    """How many entries were written so far, how many were set aside, and how many were deleted by others before."""

    written: int = 0
    set_aside: int = 0
    lost: int = 0

    @property
    def problems(self) -> list[str]:
        """What needs attention, one sentence each."""
        sentences = []
        if self.set_aside:
            sentences.append(f"{self.set_aside} entries could not be shipped and are set aside.")
        if self.lost:
            sentences.append(f"{self.lost} entries are lost: somebody deleted them before they were shipped.")
        return sentences


class Shipper:
    """A consumer of the group. `must_stop` is called between two batches."""

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
        """Ship until only entries of other consumers are left.

        Raises RedisError, Django's database errors, and LogIdentityError if the stream is another log's.
        """
        while not self._must_stop() and self.ship_batch():
            pass

    def run(self) -> None:
        """Ship until `must_stop`. While a server is unavailable, log that once and retry with growing pauses.

        Raises LogIdentityError if the stream is another log's.
        """
        unavailable, pause = "", PAUSE
        while not self._must_stop():
            try:
                is_behind = self.ship_batch() == self._batch_size
                if unavailable:
                    logger.warning("The audit log is shipped again.")
                unavailable, pause = "", 0.0 if is_behind else PAUSE
            except LogIdentityError:
                raise
            except (RedisError, Error) as error:
                server = "Redis" if isinstance(error, RedisError) else "the database"
                if server != unavailable:
                    logger.error("The audit log is not shipped: %s says %s. Trying again.", server, one_line(error))
                unavailable, pause = server, min(max(PAUSE, pause * 2), LONGEST_PAUSE)
                if isinstance(error, RedisError):
                    self._stream.servers.reconsider(error)
                self._is_member = False
                connections[router.db_for_write(APIKey)].close()
            self._pause(pause)

    def _pause(self, seconds: float) -> None:
        until = monotonic() + seconds
        while not self._must_stop() and (remaining := until - monotonic()) > 0:
            sleep(min(remaining, PAUSE))

    def ship_batch(self) -> int:
        """Ship one batch and return its number of entries; 0 if nothing is left for this consumer."""
        if not self._is_member:
            log_identity.forget()
        claim(self._stream)
        if not self._is_member:
            self._join_group()
        entries = self._next_batch()
        if entries:
            # Behind a pooler the database may have become another one, without a new connection.
            log_identity.forget()
            claim(self._stream)
            self._ship(entries)
        else:
            self._redeliver_unowned()
        return len(entries)

    def _join_group(self) -> None:
        if not self._group_exists():
            with suppress(ResponseError):  # another created it; any other error comes back at the next command
                self._redis.xgroup_create(self._stream.name, GROUP, id="0", mkstream=True)
        forgotten = FORGET_AFTER.total_seconds() * 1000
        for consumer in self._redis.xinfo_consumers(self._stream.name, GROUP):
            if consumer["pending"] == 0 and consumer["idle"] > forgotten:
                self._redis.xgroup_delconsumer(self._stream.name, GROUP, consumer["name"])
        self._redeliver_unowned()
        self._is_member = True

    def _group_exists(self) -> bool:
        # Checked first: a full Redis would refuse to create the group, and shipping makes room.
        try:
            groups = self._redis.xinfo_groups(self._stream.name)
        except ResponseError:
            return False
        return any(group["name"] == GROUP.encode() for group in groups)

    def _next_batch(self) -> list[Entry]:
        """Return a batch: this consumer's own pending entries, else those it can claim, else new ones."""
        if mine := self._read("0"):
            return mine
        return self._claim() or self._read(">")

    def _claim(self) -> list[Entry]:
        """Take over what other consumers did not finish in time."""
        position: bytes | None = None
        while position != b"0-0":
            # From Redis 7 on there is a third part: entries that are pending and were deleted. Before, they stay
            # pending, and come without fields.
            position, claimed, *deleted = self._redis.xautoclaim(
                self._stream.name, GROUP, self.consumer, self._claim_after, position or "0-0", count=self._batch_size
            )
            self._report_lost([entry for part in deleted for entry in part])
            if entries := [(entry, fields) for entry, fields in claimed if entry is not None]:
                return entries
        return []

    def _read(self, position: str) -> list[Entry]:
        answer = self._redis.xreadgroup(GROUP, self.consumer, {self._stream.name: position}, count=self._batch_size)
        entries: list[Entry] = answer[0][1] if answer else []
        return entries

    def _ship(self, entries: Iterable[Entry]) -> None:
        lost, taken = [], []
        refused: list[Refused] = []
        for entry, fields in entries:
            if not fields:
                lost.append(entry)
                continue
            try:
                taken.append(Taken(entry, fields, decode(fields)))
            except EntryError as error:
                refused.append((entry, fields, error))
        if lost:
            self._redis.xack(self._stream.name, GROUP, *lost)
            self._report_lost(lost)
        if taken:
            refused += self._write(taken)
        # Last: a full Redis accepts nothing before something has been shipped.
        for each in refused:
            self._set_aside(*each)

    def _write(self, taken: Sequence[Taken]) -> list[Refused]:
        """Write the rows of entries, and return the entries that cannot be written."""
        rows, contradicting = _merged(taken)
        try:
            differing = {(row["ticket"], row["at"]) for row in statements.ship(list(rows.values()))}
        except Exception as error:
            # Raises where not the entries are the reason.
            failures.look_into(error)
            if len(taken) == 1:
                return [taken[0].refused(error)]
            half = len(taken) // 2
            return [*self._write(taken[:half]), *self._write(taken[half:])]
        left = [each for each in taken if each.entry in contradicting or each.name in differing]
        if left and len(taken) == 1:
            return [each.refused(EntryError(CONFLICT)) for each in left]
        written = {each.entry for each in taken} - {each.entry for each in left}
        if written:
            self._finish([*written])
            self.shipped.written += len(written)
        # One of them may be no news, or the one that is right.
        return [refused for each in left for refused in self._write([each])]

    def _finish(self, entries: Sequence[bytes]) -> None:
        """Acknowledge entries and delete them."""
        # No transaction: a full Redis would refuse it. `_redeliver_unowned` finds entries that were acknowledged but,
        # if this process dies here, not deleted.
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.xack(self._stream.name, GROUP, *entries)
            pipeline.xdel(self._stream.name, *entries)
            pipeline.execute()

    def _set_aside(self, entry: bytes, fields: Fields, error: Exception) -> None:
        """Move an entry that cannot be written to another stream, where it blocks nothing."""
        # A command after the other: in a transaction of Redis the entry is deleted also if it could not be added. If
        # this process dies in between, it is set aside twice.
        self._redis.xadd(self._stream.set_aside, {**fields, **dict(zip(ADDED, (entry, one_line(error)), strict=True))})
        self._finish([entry])
        self.shipped.set_aside += 1
        # The text of other errors may show a part of the row.
        reason = error if isinstance(error, EntryError) else type(error).__name__
        logger.error(
            "Entry %s of the audit log cannot be written and is kept in %s: %s",
            entry.decode(), self._stream.set_aside, reason,
        )  # fmt: skip

    def _report_lost(self, entries: Sequence[bytes]) -> None:
        """Tell of entries that somebody deleted from the stream while they were pending."""
        if entries:
            self.shipped.lost += len(entries)
            logger.error(
                "%d entries of the audit log are lost, from %s on: somebody deleted them before they were shipped.",
                len(entries), min(entries, key=_position).decode(),
            )  # fmt: skip

    def _redeliver_unowned(self) -> None:
        """Deliver unfinished entries again that no consumer has pending, because their consumer was deleted."""
        # In this order: what was delivered before the first command, is not pending at the second and exists at the
        # third has no consumer.
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.xinfo_groups(self._stream.name)
            pipeline.xpending(self._stream.name, GROUP)
            pipeline.xrange(self._stream.name, count=1)
            groups, pending, oldest = pipeline.execute()
        last_delivered = [_position(each["last-delivered-id"]) for each in groups if each["name"] == GROUP.encode()]
        for entry, _ in oldest:
            is_pending = pending["min"] is not None and _position(pending["min"]) <= _position(entry)
            if not is_pending and any(_position(entry) <= last for last in last_delivered):
                # Safe for pending entries of other consumers: writing them again changes nothing.
                self._redis.xgroup_setid(self._stream.name, GROUP, "0")


def claim(stream: Stream) -> None:
    """Make sure that the stream is this log's: nobody has used it, or this log has.

    Raises LogIdentityError if it is not, RedisError, and Django's database errors.
    """
    try:
        stream.hand_over(log_identity.current())
    except StreamError as error:
        raise error.__cause__ or error from None


def retry(stream: Stream) -> int:
    """Put the entries that were set aside back into the stream, and return their number.

    Raises LogIdentityError if the stream is another log's.
    """
    claim(stream)
    last, retried = stream.client.xrevrange(stream.set_aside, count=1), 0
    while entries := stream.client.xrange(stream.set_aside, max=last[0][0], count=BATCH_SIZE) if last else []:
        for entry, fields in entries:
            # Without the added fields, so that an entry that is set aside again looks the same. One command after the
            # other, so that nothing is deleted that was not added.
            own = {name: value for name, value in fields.items() if name not in ADDED}
            stream.client.xadd(stream.name, own or fields)
            stream.client.xdel(stream.set_aside, entry)
        retried += len(entries)
    return retried


def _merged(taken: Sequence[Taken]) -> tuple[dict[Name, Row], set[bytes]]:
    """Return the last state of each row, and the ids of entries that contradict earlier ones."""
    rows: dict[Name, Row] = {}
    contradicting: set[bytes] = set()
    for each in taken:
        try:
            rows[each.name] = merged(rows.get(each.name, each.row), each.row)
        except EntryError:
            contradicting.add(each.entry)
    return rows, contradicting


def _position(entry: bytes) -> tuple[int, int]:
    """Return an entry's id as two numbers, which compare in the order of the stream."""
    milliseconds, _, number = entry.partition(b"-")
    return int(milliseconds), int(number)


def one_line(error: Exception) -> str:
    """Return the type and text of an error, on one line."""
    return printable(f"{type(error).__name__}: {' '.join(str(error).split())}"[:200])
