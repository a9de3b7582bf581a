"""Seals the finished part of the audit log, in a chain of seals.

A seal holds a digest of each of its rows, the digest of the seal before it, and a signature over both. Its content
depends on the rows and the key alone, and is the same on every database.

Sealed is the time that is stored. With `USE_TZ = False` that is the instant where the database keeps instants
(PostgreSQL), and elsewhere local time, which counts here as if it were UTC. So a change of `USE_TZ` alters no seal.
"""

import hmac
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import accumulate, pairwise
from time import monotonic, sleep
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, OperationalError, connections, router, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from .. import environment, moments
from ..conf import DATABASE, conf, environment_folder
from ..models import AuditEvent, AuditSeal, fields
from ..models.audit_event import TRAFFIC
from . import seal_formats, statements
from .seal_formats import BINARY, EPOCH, MICROSECOND, MOMENT, NUMBER, SECONDS, TEXT, Format, Reader, Row

SEAL_KEY = "KEYS_SEAL_KEY"  # environment variable; its first key signs, the older ones verify what they signed
MOST_ROWS = 10_000
PATIENCE = 10.0  # seconds to wait for transactions that are writing to the log

# A use without an outcome, which may still be added once.
NO_OUTCOME: Row = [AuditEvent.Event.USED.value, "", None, None]
OUTCOME = ("event", "reason", "status", "duration_ms")
DIGEST_SIZE = 16
# Times beyond are as if they were these, in microseconds.
EARLIEST, LATEST = ((end - EPOCH) // MICROSECOND for end in (fields.EARLIEST, fields.LATEST))

# The columns of a seal, which are read as they are stored, too.
SEAL_COLUMNS = {
    "number": NUMBER, "format": NUMBER, "made_at": MOMENT, "first_id": NUMBER, "last_id": NUMBER, "since": MOMENT,
    "until": MOMENT, "count": NUMBER, "entries": BINARY, "previous": TEXT, "digest": TEXT, "key_id": TEXT,
    "signature": TEXT,
}  # fmt: skip


class SealingKey:
    """A secret that signs seals, and keys the digests of rows, so that nobody without it can guess their content."""

    def __init__(self, secret: str) -> None:
        self.id = _derived(secret, "id").hex()[:8]
        self._rows, self._seals = _derived(secret, "rows"), _derived(secret, "seals")

    def digest(self, row: Sequence[Any], form: Format) -> bytes:
        """Return the digest of a row in that format."""
        return hmac.digest(self._rows, form.encoded(row), "sha256")[:DIGEST_SIZE]

    def sign(self, digest: str) -> str:
        """Return the signature of a seal's digest."""
        return hmac.digest(self._seals, digest.encode(), "sha256").hex()


def _derived(secret: str, purpose: str) -> bytes:
    return hmac.digest(secret.encode("utf-8", "surrogatepass"), f"django-service-keys {purpose}".encode(), "sha256")


def without_outcome(row: Sequence[Any], form: Format) -> Sequence[Any]:
    """Return the row of a use as it was before its outcome; any other row unchanged."""
    places = form.places
    if row[places["status"]] is None or row[places["event"]] not in TRAFFIC:
        return row
    before = [*row]
    for column, value in zip(OUTCOME, NO_OUTCOME, strict=True):
        before[places[column]] = value
    return before


def microseconds(moment: datetime) -> int:
    """Return the moment in microseconds since 1970 (UTC)."""
    return (moment - EPOCH) // MICROSECOND


def log_keeps_local_time() -> bool:
    """Tell whether the times of the log are local ones without an offset."""
    return fields.keeps_local_time(connections[router.db_for_write(AuditEvent)])


def as_sealed(moment: datetime) -> datetime:
    """Return a moment as the seals hold it."""
    return moments.kept(moment).replace(tzinfo=UTC) if log_keeps_local_time() else moments.instant(moment)


def moment(microseconds: int) -> datetime:
    """Return the moment that is so many microseconds after 1970 (UTC)."""
    return EPOCH + microseconds * MICROSECOND


class Entry(NamedTuple):
    """What a seal holds of one row: enough to recognise it, and to tell whether retention may have deleted it."""

    id: int
    at: int
    is_traffic: bool
    digest: bytes


def entry(row: Row, key: SealingKey, form: Format) -> Entry:
    """Return a row's entry."""
    number, at, event = row[:3]
    time = at if isinstance(at, int) else _time_of(at)
    return Entry(number, max(EARLIEST, min(time, LATEST)), event in TRAFFIC, key.digest(row, form))


def _time_of(at: Any) -> int:
    """Return the time that is spelt in a way of its own, in microseconds.

    One that cannot be read is where the database sorts it, by the first year that it names, as retention will take it:
    one row of infinity must not keep the log open.
    """
    kind, text = at or ("integer", "")
    with suppress(ValueError, OverflowError):
        read = parse_datetime(text)
        if read is not None:
            return microseconds(read.replace(tzinfo=UTC) if read.tzinfo is None else moments.instant(read))
    if kind == "text" and not text.endswith(SECONDS):
        with suppress(ValueError):
            return microseconds(datetime(int(text[:4].encode("ascii")), 1, 1, tzinfo=UTC))
    # SQLite sorts numbers before text, and text before bytes.
    return EARLIEST if kind in {"integer", "real"} or (kind == "text" and text < "1") else LATEST


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


def made_of(
    entries: Sequence[Entry],
    previous: AuditSeal | None,
    key: SealingKey,
    made_at: datetime,
    form: Format,
    number: int | None = None,
) -> AuditSeal:
    """Return a new, unsaved seal of these rows, which are in the order of ids and follow those of the previous seal.

    The number is the next one. A higher one says that the seals between were lost: a chain begins anew with this seal.
    """
    times = [entry.at for entry in entries]
    seal = AuditSeal(
        number=number or following(previous),
        format=form.number,
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


def following(seal: AuditSeal | None) -> int:
    """Return the number of the next seal."""
    return seal.number + 1 if seal else 1


class SealError(Exception):
    """The log cannot be sealed or verified. The text is a sentence that gives the reason."""


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


def read_seal(number: int) -> AuditSeal | None:
    """Return the seal of that number; None if it does not exist, or holds a value that no seal was written with."""
    found = seals().filter(number=number)
    values = next(Reader(SEAL_COLUMNS, found.db).rows(found), None)
    if values is None or any(value is None or isinstance(value, list) for value in values):
        return None
    said: dict[str, Any] = dict(zip(SEAL_COLUMNS, values, strict=True))
    return AuditSeal(
        **{name: moment(said[name]) if kind is MOMENT else said[name] for name, kind in SEAL_COLUMNS.items()}
    )


def written_seals(first: int = 1) -> Iterator[AuditSeal]:
    """Yield the seals from that number on, for their lines. Raises SealError for one that was altered."""
    for number in seals().filter(number__gte=first).values_list("number", flat=True).iterator():
        if (seal := read_seal(number)) is None:
            raise SealError(f"Seal {number} was altered: keys_verify says more.")
        yield seal


def newest_seal() -> AuditSeal | None:
    """Return the newest seal, or None. Raises SealError if no seal can be made after it."""
    number = seals().values_list("number", flat=True).last()
    if number is None:
        return None
    seal = read_seal(number)
    if seal is None:
        raise SealError(f"Seal {number}, the newest, was altered: keys_verify says more.")
    if seal.format not in seal_formats.FORMATS:
        raise SealError(f"Seal {number}, the newest, {seal_formats.unknown(seal.format)}")
    return seal


def seal(
    most_rows: int = MOST_ROWS, write_out: Callable[[AuditSeal], None] | None = None, lost: int = 0
) -> Iterator[AuditSeal]:
    """Seal the finished rows, and yield each seal once it is saved. Several processes may do so at once.

    Finished are the rows before the first one younger than `KEYS["SEAL_AFTER"]`, in the order of ids, in which rows
    came: a late row with an old time does not block sealing. If entries are in a stream, age counts back from the
    oldest of them, which may be an outcome. `write_out` gets each seal before it is committed: if it raises, that seal
    is not made. Seals up to the number `lost` are not made again: the first one begins a new chain after them. Raises
    SealError without a key, while a transaction may still add one of these rows, or after a seal that this release
    does not know.
    """
    key, form = sealing_keys()[0], seal_formats.newest()
    previous = newest_seal()
    now = timezone.now()
    last = _last_finished(previous, now)
    if last is None:
        return
    _wait_for_writers()
    while entries := _entries(_after(previous).filter(pk__lte=last), key, form, most_rows):
        made = made_of(entries, previous, key, now, form, max(following(previous), lost + 1))
        try:
            save(made, write_out)
        except IntegrityError:
            # Another process was faster; go on from its seal.
            previous = newest_seal()
            if previous is None or previous.number < made.number:
                raise
        else:
            yield made
            previous = made


def save(made: AuditSeal, write_out: Callable[[AuditSeal], None] | None = None) -> None:
    """Save a new seal, once it is written out. Raises IntegrityError if there is one of this number."""
    with transaction.atomic(using=seals().db):
        # Without signals, which invite packages that write whole rows down and stumble over the binary column.
        AuditSeal.objects.using(seals().db).bulk_create([made])
        if write_out is not None:
            write_out(made)


def made_again(said: Mapping[str, Any], previous: AuditSeal | None) -> AuditSeal | None:
    """Return the unsaved seal that is described so, made again from its rows; None if they do not give the same one.

    What is written out before it is committed may have remained alone.
    """
    try:
        key = {key.id: key for key in sealing_keys()}[said["key_id"]]
        form = seal_formats.FORMATS[said["format"]]
        made_at = datetime.fromisoformat(said["made_at"])
        number, last, count = (int(said[name]) for name in ("number", "last_id", "count"))
    except (KeyError, ValueError, TypeError):
        return None
    entries = _entries(_after(previous).filter(pk__lte=last), key, form, count + 1)
    made = made_of(entries, previous, key, made_at, form, number) if entries else None
    return made if made is not None and made.described() == said else None


def _entries(events: QuerySet[AuditEvent], key: SealingKey, form: Format, most: int) -> list[Entry]:
    return [entry(row, key, form) for row in Reader(form.columns, events.db).rows(events, most)]


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
    except (OperationalError, ImportError, ImproperlyConfigured) as error:
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
