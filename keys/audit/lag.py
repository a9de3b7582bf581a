"""How far the shippers are behind, and what of that somebody has to look at."""

from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

from ..conf import conf
from .stream import GROUP, Stream


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
