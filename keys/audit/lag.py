"""How far the shippers are behind, and what of that somebody has to look at."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.exceptions import ResponseError

from .. import durations
from ..conf import conf
from ..redaction import printable
from .stream import GROUP, Stream, appended_at

# An entry that has waited for so long, in the stream or with a shipper that says nothing, is complained of.
LONG_WAIT = timedelta(minutes=5)
# The same where no shipper has said anything for a minute: it asks for entries twice in a second.
LONG_WAIT_FOR_NOBODY = timedelta(seconds=10)
SILENCE = timedelta(minutes=1)


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
    `oldest_seconds` old; `set_aside` could not be shipped. `role` is "primary", or "replica" of a server that cannot
    be written; `fsync` is Redis's `appendfsync`, empty without an append-only file, and `eviction` its
    `maxmemory-policy`; None if Redis does not tell.
    """

    waiting: int
    limit: int
    pending: int
    oldest_seconds: float
    set_aside: int
    role: str | None
    fsync: str | None
    eviction: str | None
    consumers: list[Consumer] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """What needs attention, one sentence each."""
        sentences = []
        if self.role == "replica":
            sentences.append("This Redis is a replica: nothing can be written to it, and it may be behind.")
        sentences += self._delays()
        if self.waiting >= self.limit:
            sentences.append(f"The backlog has reached its limit of {self.limit} entries: uses are refused.")
        if self.set_aside:
            sentences.append(f"{self.set_aside} entries could not be shipped and are set aside.")
        if (self.eviction or "").startswith("allkeys"):
            sentences.append(f"Redis may drop the stream when its memory is full (maxmemory-policy {self.eviction}).")
        if self.fsync == "":
            sentences.append("Redis has no append-only file: what waits is lost when it is restarted.")
        return sentences

    def _delays(self) -> list[str]:
        """What has waited for too long, one sentence for each that has to be looked at."""
        limit = LONG_WAIT.total_seconds()
        silent = [
            f"{each.name} has {each.pending} entries, and has said nothing for {durations.rough(each.idle_seconds)}."
            for each in self.consumers
            if each.pending and each.idle_seconds > limit
        ]
        is_attended = any(each.idle_seconds < SILENCE.total_seconds() for each in self.consumers)
        if not is_attended and self.oldest_seconds > LONG_WAIT_FOR_NOBODY.total_seconds():
            waited = durations.rough(self.oldest_seconds)
            return [f"No shipper is at work: the oldest entry has waited for {waited}. Run keys_ship.", *silent]
        if self.oldest_seconds > limit:
            return [f"The oldest entry has waited for {durations.rough(self.oldest_seconds)}.", *silent]
        return silent


def measure(stream: Stream) -> Lag:
    """Return how far the shippers are behind. Raises RedisError."""
    with stream.client.pipeline(transaction=False) as pipeline:  # a full Redis would refuse a transaction
        pipeline.xlen(stream.name)
        pipeline.xrange(stream.name, count=1)
        pipeline.xlen(stream.set_aside)
        pipeline.time()
        waiting, oldest, set_aside, (seconds, microseconds) = pipeline.execute()
    now = datetime.fromtimestamp(seconds + microseconds / 1_000_000, UTC)
    since = appended_at(oldest[0], now) if oldest else now
    consumers = _consumers(stream)
    return Lag(
        waiting=waiting,
        limit=conf.AUDIT_BACKLOG_LIMIT,
        pending=sum(consumer.pending for consumer in consumers),
        oldest_seconds=max(0.0, (now - since).total_seconds()),
        set_aside=set_aside,
        role={"master": "primary", "slave": "replica"}.get(_info(stream, "replication").get("role", "")),
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
    return [
        Consumer(printable(each["name"].decode(errors="replace")), each["pending"], each["idle"] / 1000)
        for each in known
    ]


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
