"""Seals the finished part of the audit log, in a chain of seals.

A seal holds a digest of each of its rows, the digest of the seal before it, and a signature over both. Its content
depends on the rows and the key alone, and is the same on every database.

Sealed is the time that is stored. With `USE_TZ = False` that is the instant where the database keeps instants
(PostgreSQL), and elsewhere local time, which counts here as if it were UTC. So a change of `USE_TZ` alters no seal.
"""

import hmac
import json
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from ipaddress import ip_address
from itertools import accumulate, pairwise
from time import monotonic, sleep
from typing import Any, NamedTuple

from django.conf import settings
from django.db import DataError, IntegrityError, OperationalError, connections, router, transaction
from django.db.models import QuerySet
from django.utils import timezone

from .. import environment, moments
from ..conf import DATABASE, conf, environment_folder
from ..models import AuditEvent, AuditSeal
from ..models.audit_event import TRAFFIC
from ..models.fields import keeps_local_time
from . import statements

SEAL_KEY = "KEYS_SEAL_KEY"  # environment variable; its first key signs, the older ones verify what they signed
MOST_ROWS = 10_000
PATIENCE = 10.0  # seconds to wait for transactions that are writing to the log

# The sealed columns, in order. This is part of the format of every seal ever made.
COLUMNS = (
    "id", "at", "event", "reason", "api_key_id", "key_name", "key_prefix", "method", "path", "endpoint", "status",
    "duration_ms", "address", "user_agent", "request_id", "actor", "count", "detail", "changes", "ticket",
)  # fmt: skip
# A use without an outcome, which may still be added once.
NO_OUTCOME: dict[str, Any] = {"event": AuditEvent.Event.USED.value, "reason": "", "status": None, "duration_ms": None}
DIGEST_SIZE = 16
MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# The values of a row in the order of COLUMNS.
Values = Sequence[Any]


class SealingKey:
    """A secret that signs seals, and keys the digests of rows, so that nobody without it can guess their content."""

    def __init__(self, secret: str) -> None:
        self.id = _derived(secret, "id").hex()[:8]
        self._rows, self._seals = _derived(secret, "rows"), _derived(secret, "seals")

    def digest(self, row: Values) -> bytes:
        """Return the digest of a row, whose values are in the order of COLUMNS."""
        return hmac.digest(self._rows, encoded(row), "sha256")[:DIGEST_SIZE]

    def sign(self, digest: str) -> str:
        """Return the signature of a seal's digest."""
        return hmac.digest(self._seals, digest.encode(), "sha256").hex()


def _derived(secret: str, purpose: str) -> bytes:
    return hmac.digest(secret.encode("utf-8", "surrogatepass"), f"django-service-keys {purpose}".encode(), "sha256")


def encoded(row: Values) -> bytes:
    """Return a row as bytes: a JSON array, the time in microseconds since 1970 (UTC), the address in hexadecimal."""
    values = dict(zip(COLUMNS, row, strict=True))
    if isinstance(values["at"], datetime):
        values["at"] = microseconds(values["at"])
    values["address"] = _octets(values["address"])
    # `repr`: SQLite stores values of any type in any column.
    return json.dumps([*values.values()], separators=(",", ":"), default=repr).encode()


def without_outcome(row: Values) -> Values:
    """Return the row of a use as it was before its outcome; any other row unchanged."""
    values = dict(zip(COLUMNS, row, strict=True))
    if values["status"] is None or values["event"] not in TRAFFIC:
        return row
    return [*(values | NO_OUTCOME).values()]


def microseconds(moment: datetime) -> int:
    """Return the moment in microseconds since 1970 (UTC)."""
    return (moment - _EPOCH) // MICROSECOND


def log_keeps_local_time() -> bool:
    """Tell whether the times of the log are local ones without an offset."""
    return keeps_local_time(connections[router.db_for_write(AuditEvent)])


def as_sealed(moment: datetime) -> datetime:
    """Return a moment as the seals hold it."""
    return moments.kept(moment).replace(tzinfo=UTC) if log_keeps_local_time() else moments.instant(moment)


def sealable(rows: Iterable[Values]) -> Iterable[Values]:
    """Return the rows, whose values are in the order of COLUMNS, with their times as the seals hold them."""
    if settings.USE_TZ:
        return rows
    in_utc: Callable[[datetime], datetime] = moments.instant
    if log_keeps_local_time():
        in_utc = partial(datetime.replace, tzinfo=UTC)
    return ((pk, in_utc(at) if isinstance(at, datetime) and at.tzinfo is None else at, *rest) for pk, at, *rest in rows)


def moment(microseconds: int) -> datetime:
    """Return the moment that is so many microseconds after 1970 (UTC)."""
    return _EPOCH + microseconds * MICROSECOND


@lru_cache(maxsize=1024)
def _octets(address: object) -> object:
    """Return the address in hexadecimal: databases write the same IPv6 address in several ways."""
    try:
        return ip_address(address).packed.hex() if isinstance(address, str) else address
    except ValueError:
        return address


class Entry(NamedTuple):
    """What a seal holds of one row: enough to recognise it, and to tell whether retention may have deleted it."""

    id: int
    at: int
    is_traffic: bool
    digest: bytes


def entry(row: Values, key: SealingKey) -> Entry:
    """Return a row's entry."""
    return Entry(row[0], microseconds(row[1]), row[2] in TRAFFIC, key.digest(row))


def pack(entries: Sequence[Entry]) -> bytes:
    """Return the entries as bytes, about 20 for each."""
    ids = [entry.id for entry in entries]
    times = [entry.at * 2 + entry.is_traffic for entry in entries]
    steps = [later - earlier for numbers in (ids, times) for earlier, later in pairwise([0, *numbers])]
    return zlib.compress(struct.pack(f">{len(steps)}q", *steps)) + b"".join(entry.digest for entry in entries)


def unpack(packed: bytes, count: int) -> list[Entry]:
    """Return the entries from their bytes."""
    digests = packed[len(packed) - count * DIGEST_SIZE :]
    steps = struct.unpack(f">{2 * count}q", zlib.decompress(packed[: len(packed) - len(digests)]))
    ids, times = accumulate(steps[:count]), accumulate(steps[count:])
    return [
        Entry(row, time // 2, bool(time % 2), digests[start : start + DIGEST_SIZE])
        for row, time, start in zip(ids, times, range(0, len(digests), DIGEST_SIZE), strict=True)
    ]


def made_of(entries: Sequence[Entry], previous: AuditSeal | None, key: SealingKey, made_at: datetime) -> AuditSeal:
    """Return a new, unsaved seal of these rows, which are in the order of ids and follow those of the previous seal."""
    times = [entry.at for entry in entries]
    seal = AuditSeal(
        number=previous.number + 1 if previous else 1,
        format=1,
        made_at=moments.instant(made_at),
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


class SealError(Exception):
    """The log cannot be sealed or verified. The text is a sentence that gives the reason."""


def is_unreadable(error: Exception) -> bool:
    """Tell whether the error comes from a value that does not fit its column.

    SQLite stores anything in any column, even text that is not UTF-8, and PostgreSQL times that Python cannot
    represent.
    """
    if isinstance(error, OperationalError):
        return "decode to UTF-8" in str(error)
    return isinstance(error, DataError | ValueError | TypeError | AttributeError | OverflowError)


def seal_key_values() -> list[str]:
    """Return the values of the variable, unchecked."""
    return environment.values(SEAL_KEY, environment_folder())


def sealing_keys() -> list[SealingKey]:
    """Return the keys in the environment; the first one signs. Raises SealError for none, or one that is too short."""
    try:
        values = seal_key_values()
    except environment.UnreadableFileError as error:
        raise SealError(str(error)) from None
    if not values:
        raise SealError(f"{SEAL_KEY} is not set; `manage.py keys_generate` makes a good value.")
    if any(len(value) < environment.MIN_LENGTH for value in values):
        raise SealError(f"{SEAL_KEY} holds a key shorter than {environment.MIN_LENGTH} characters.")
    return [SealingKey(value) for value in values]


def log() -> QuerySet[AuditEvent]:
    """Return the events in the order they came (by id), from the database they are written to."""
    events: QuerySet[AuditEvent] = AuditEvent.objects.written()
    return events.order_by("pk")


def seals() -> QuerySet[AuditSeal]:
    """Return the seals in order."""
    return AuditSeal.objects.using(router.db_for_write(AuditEvent)).order_by("number")


def seal(most_rows: int = MOST_ROWS) -> Iterator[AuditSeal]:
    """Seal the finished rows, and yield each seal once it is saved. Several processes may do so at once.

    Finished are the rows before the first one younger than `KEYS["SEAL_AFTER"]`, in the order of ids, in which rows
    came: a late row with an old time does not block sealing. If entries are in a stream, age counts back from the
    oldest of them, which may be an outcome. Raises SealError without a key, or while a transaction may still add
    one of these rows.
    """
    key = sealing_keys()[0]
    previous = seals().last()
    now = timezone.now()
    last = _last_finished(previous, now)
    if last is None:
        return
    _wait_for_writers()
    while entries := _entries(_after(previous).filter(pk__lte=last)[:most_rows], key):
        made = made_of(entries, previous, key, now)
        try:
            with transaction.atomic(using=seals().db):
                # Without signals, which invite packages that write whole rows down and stumble over the binary column.
                AuditSeal.objects.using(seals().db).bulk_create([made])
        except IntegrityError:
            # Another process was faster; go on from its seal.
            previous = seals().last()
            if previous is None or previous.number < made.number:
                raise
        else:
            yield made
            previous = made


def _entries(events: QuerySet[AuditEvent], key: SealingKey) -> list[Entry]:
    try:
        return [entry(row, key) for row in sealable(events.values_list(*COLUMNS))]
    except Exception as error:
        if not is_unreadable(error):
            raise
        raise SealError(f"A row that is to be sealed holds what its column cannot: {error}.") from error


def _after(previous: AuditSeal | None) -> QuerySet[AuditEvent]:
    return log() if previous is None else log().filter(pk__gt=previous.last_id)


def _last_finished(previous: AuditSeal | None, now: datetime) -> int | None:
    """Return the id of the last finished row; None if there is none."""
    finished = moments.after(_complete_until(now), -conf.SEAL_AFTER)
    # Ignore rows from the future: a wrong clock must not keep the log open until then.
    ids = _after(previous).values_list("pk", flat=True)
    young = ids.filter(at__gt=finished, at__lte=now).first()
    old = ids.filter(at__lte=finished)
    last: int | None = (old if young is None else old.filter(pk__lt=young)).last()
    return last


def _complete_until(now: datetime) -> datetime:
    """Return the time before which every row has come, with its outcome."""
    if conf.AUDIT_SINK == DATABASE:
        return now
    try:
        from .stream import stream_at

        since = stream_at(conf.AUDIT_SINK).waiting_since()
        return now if since is None else min(now, moments.kept(since), key=moments.instant)
    except (OperationalError, ImportError, ValueError, TypeError, AttributeError) as error:
        # Only the type: the text may hold a part of the address, and so of a password.
        reason = type(error.__cause__ or error).__name__
        raise SealError(f"The stream cannot be asked what of the audit log waits in it: {reason}.") from error


def _wait_for_writers() -> None:
    """Wait until all transactions have ended that were writing to the log when this was called.

    Only PostgreSQL has such transactions and lists them. SQLite has one writer at a time; elsewhere `SEAL_AFTER`
    must be enough.
    """
    began, waiting_for = monotonic(), statements.writers()
    while waiting_for:
        if monotonic() - began > PATIENCE:
            raise SealError("A transaction that has written to the audit log stays open: seal again when it has ended.")
        sleep(0.05)
        waiting_for &= statements.writers()
