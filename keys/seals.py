"""What a seal of the audit log is: a digest of each of its rows, the seal before it, and a signature over both.

Everything here is a function of the rows and the key alone, and the same on every database.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from ipaddress import ip_address
from itertools import accumulate, pairwise
from typing import Any, ClassVar, NamedTuple

from django.db import models
from django.utils.translation import gettext_lazy as _

from .events import TRAFFIC, AuditEvent

# The columns that are sealed, in their order: a part of the format of every seal that was ever made.
COLUMNS = (
    "id", "at", "event", "reason", "api_key_id", "key_name", "key_prefix", "method", "path", "endpoint", "status",
    "duration_ms", "address", "user_agent", "request_id", "actor", "count", "detail", "ticket",
)  # fmt: skip
# What a use without an outcome holds, and may yet be given once.
NO_OUTCOME: dict[str, Any] = {"event": AuditEvent.Event.USED.value, "reason": "", "status": None, "duration_ms": None}
DIGEST_SIZE = 16
MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Row = Sequence[Any]


class SealingKey:
    """A secret that signs seals, and digests rows so that nobody without it can try out what a row may have held."""

    def __init__(self, secret: str) -> None:
        self.id = _derived(secret, "id").hex()[:8]
        self._rows, self._seals = _derived(secret, "rows"), _derived(secret, "seals")

    def digest(self, row: Row) -> bytes:
        """Return what stands for a row, its values in the order of COLUMNS."""
        return hmac.digest(self._rows, encoded(row), "sha256")[:DIGEST_SIZE]

    def sign(self, digest: str) -> str:
        """Return the signature of a seal's digest."""
        return hmac.digest(self._seals, digest.encode(), "sha256").hex()


def _derived(secret: str, purpose: str) -> bytes:
    return hmac.digest(secret.encode("utf-8", "surrogatepass"), f"django-service-keys {purpose}".encode(), "sha256")


def encoded(row: Row) -> bytes:
    """Return a row as bytes: a JSON array, the time in microseconds since 1970 (UTC), the address in its octets."""
    values = dict(zip(COLUMNS, row, strict=True))
    if isinstance(values["at"], datetime):
        values["at"] = microseconds(values["at"])
    values["address"] = _octets(values["address"])
    # SQLite keeps whatever it is given in a column of any type.
    return json.dumps([*values.values()], separators=(",", ":"), default=repr).encode()


def without_outcome(row: Row) -> Row:
    """Return the row of a use as it was before its outcome; any other row as it is."""
    values = dict(zip(COLUMNS, row, strict=True))
    if values["status"] is None or values["event"] not in TRAFFIC:
        return row
    return [*(values | NO_OUTCOME).values()]


def microseconds(moment: datetime) -> int:
    """Return the moment in microseconds since 1970 (UTC)."""
    return (moment - _EPOCH) // MICROSECOND


def moment(microseconds: int) -> datetime:
    """Return the moment of so many microseconds since 1970 (UTC)."""
    return _EPOCH + microseconds * MICROSECOND


@lru_cache(maxsize=1024)
def _octets(address: object) -> object:
    """Return the address in hexadecimal, since databases write one and the same IPv6 address in several ways."""
    try:
        return ip_address(address).packed.hex() if isinstance(address, str) else address
    except ValueError:
        return address


class Entry(NamedTuple):
    """What a seal holds of one row: enough to know it again, and to tell whether retention may have taken it."""

    id: int
    at: int
    is_traffic: bool
    digest: bytes


def entry(row: Row, key: SealingKey) -> Entry:
    """Return what a seal holds of the row."""
    return Entry(row[0], microseconds(row[1]), row[2] in TRAFFIC, key.digest(row))


def pack(entries: Sequence[Entry]) -> bytes:
    """Return the entries in about 20 bytes each."""
    ids = [entry.id for entry in entries]
    times = [entry.at * 2 + entry.is_traffic for entry in entries]
    steps = [later - earlier for numbers in (ids, times) for earlier, later in pairwise([0, *numbers])]
    return zlib.compress(struct.pack(f">{len(steps)}q", *steps)) + b"".join(entry.digest for entry in entries)


def unpack(packed: bytes, count: int) -> list[Entry]:
    """Return the entries that were packed."""
    digests = packed[len(packed) - count * DIGEST_SIZE :]
    steps = struct.unpack(f">{2 * count}q", zlib.decompress(packed[: len(packed) - len(digests)]))
    ids, times = accumulate(steps[:count]), accumulate(steps[count:])
    return [
        Entry(row, time // 2, bool(time % 2), digests[start : start + DIGEST_SIZE])
        for row, time, start in zip(ids, times, range(0, len(digests), DIGEST_SIZE), strict=True)
    ]


class AuditSeal(models.Model):
    """A seal: the rows of the log up to `last_id` that no earlier seal holds were these, and no others."""

    number = models.BigAutoField(_("number"), primary_key=True)
    made_at = models.DateTimeField(_("made at"))
    first_id = models.BigIntegerField(_("first row"))
    last_id = models.BigIntegerField(_("last row"))
    since = models.DateTimeField(_("time of the oldest row"))
    until = models.DateTimeField(_("time of the newest row"))
    count = models.PositiveIntegerField(_("rows"))
    entries = models.BinaryField(_("what is kept of the rows"))
    previous = models.CharField(_("digest of the seal before it"), max_length=64, blank=True)
    digest = models.CharField(_("digest"), max_length=64)
    key_id = models.CharField(_("key"), max_length=8)
    signature = models.CharField(_("signature"), max_length=64)

    objects: ClassVar[models.Manager[AuditSeal]] = models.Manager()

    class Meta:
        verbose_name = _("seal of the audit log")
        verbose_name_plural = _("seals of the audit log")
        ordering = ("number",)
        # Not in the admin, so there is nothing to permit.
        default_permissions = ()

    def __str__(self) -> str:
        return f"seal {self.number} of {self.made_at:%Y-%m-%d %H:%M:%S %Z}"

    @classmethod
    def of(cls, entries: Sequence[Entry], previous: AuditSeal | None, key: SealingKey, made_at: datetime) -> AuditSeal:
        """Return the seal, not saved, of rows in the order of their ids that follow those of the previous one."""
        times = [entry.at for entry in entries]
        seal = cls(
            number=previous.number + 1 if previous else 1,
            made_at=made_at,
            first_id=entries[0].id,
            last_id=entries[-1].id,
            since=moment(min(times)),
            until=moment(max(times)),
            count=len(entries),
            entries=pack(entries),
            previous=previous.digest if previous else "",
            key_id=key.id,
        )
        seal.digest = seal.computed_digest()
        seal.signature = key.sign(seal.digest)
        return seal

    def described(self) -> dict[str, Any]:
        """Return what is kept elsewhere: all but the entries, and those by their digest."""
        return {
            **{field: getattr(self, field) for field in ("number", "first_id", "last_id", "count", "previous")},
            **{field: _written(getattr(self, field)) for field in ("made_at", "since", "until")},
            "entries": hashlib.sha256(self.entries).hexdigest(),
            **{field: getattr(self, field) for field in ("key_id", "digest", "signature")},
        }

    def computed_digest(self) -> str:
        """Return the digest over all that the seal says, but for the digest and its signature themselves."""
        said = {name: value for name, value in self.described().items() if name not in {"digest", "signature"}}
        return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
