"""Closes the finished part of the audit log: makes seals, one after the other."""

from collections.abc import Iterator
from datetime import datetime
from time import monotonic, sleep

from django.db import DataError, IntegrityError, OperationalError, connections, router, transaction
from django.db.models import QuerySet
from django.utils import timezone

from .conf import conf
from .keyrings import MIN_LENGTH, EnvironmentKeyring
from .models import AuditEvent, AuditSeal
from .seals import COLUMNS, Entry, SealingKey, entry
from .sinks import DATABASE

# The first value signs; the others are older, and what they signed can still be verified.
SEALING_KEYS = EnvironmentKeyring("KEYS_SEAL_KEY")
MOST_ROWS = 10_000
# For how many seconds to wait for transactions that are writing to the log.
PATIENCE = 10.0

# Who is writing to the table now. An id is taken before its row can be seen, and the lock before the id.
_WRITERS = """
    SELECT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted AND relation = CAST(%s AS regclass)
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND pid IS DISTINCT FROM pg_backend_pid()
"""


class SealError(Exception):
    """The log cannot be sealed or verified; says in a sentence why."""


def is_unreadable(error: Exception) -> bool:
    """Tell whether the error comes of a value that is none of its column's.

    SQLite takes any value in any column, text that is none included, and PostgreSQL times beyond Python's.
    """
    if isinstance(error, OperationalError):
        return "decode to UTF-8" in str(error)
    return isinstance(error, DataError | ValueError | TypeError | AttributeError | OverflowError)


def sealing_keys() -> list[SealingKey]:
    """Return the keys in the environment, of which the first is the one to sign with. Raises SealError."""
    values = SEALING_KEYS.values()
    if not values:
        raise SealError(f"{SEALING_KEYS.variable} is not set; `manage.py keys_generate` makes a good value.")
    if any(len(value) < MIN_LENGTH for value in values):
        raise SealError(f"{SEALING_KEYS.variable} holds a key shorter than {MIN_LENGTH} characters.")
    return [SealingKey(value) for value in values]


def log() -> QuerySet[AuditEvent]:
    """Return the events in the order in which they came, from the database that they are written to."""
    events: QuerySet[AuditEvent] = AuditEvent.objects.using(router.db_for_write(AuditEvent))
    return events.order_by("pk")


def seals() -> QuerySet[AuditSeal]:
    """Return the seals in their order."""
    return AuditSeal.objects.using(router.db_for_write(AuditEvent)).order_by("number")


def seal(most_rows: int = MOST_ROWS) -> Iterator[AuditSeal]:
    """Seal what is finished, and give each seal once it is saved. May be at work in several places at once.

    Finished is what lies before the first row of the last `KEYS["SEAL_AFTER"]`, in the order of ids, which is the order
    in which rows came: a row that came late is no obstacle, whatever time it names. While entries wait in a stream, it
    is the last `SEAL_AFTER` before the oldest of them, which may be the outcome of a row that is there. Raises
    SealError without a key, and while a transaction is open that may yet add a row among the finished ones.
    """
    key = sealing_keys()[0]
    previous = seals().last()
    now = timezone.now()
    last = _last_finished(previous, now)
    if last is None:
        return
    _wait_for_writers()
    while entries := _entries(_after(previous).filter(pk__lte=last)[:most_rows], key):
        made = AuditSeal.of(entries, previous, key, now)
        try:
            with transaction.atomic(using=seals().db):
                made.save(using=seals().db, force_insert=True)
        except IntegrityError:
            # Somebody else was faster, and their seal is the one to go on from.
            previous = seals().last()
            if previous is None or previous.number < made.number:
                raise
        else:
            yield made
            previous = made


def _entries(events: QuerySet[AuditEvent], key: SealingKey) -> list[Entry]:
    try:
        return [entry(row, key) for row in events.values_list(*COLUMNS)]
    except Exception as error:
        if not is_unreadable(error):
            raise
        raise SealError(f"A row that is to be sealed holds what its column cannot: {error}.") from error


def _after(previous: AuditSeal | None) -> QuerySet[AuditEvent]:
    return log() if previous is None else log().filter(pk__gt=previous.last_id)


def _last_finished(previous: AuditSeal | None, now: datetime) -> int | None:
    """Return the id of the last row that is finished; None where there is none."""
    finished = _complete_until(now) - conf.SEAL_AFTER
    # A row from the future is one of a wrong clock, which must not keep the log open until then.
    ids = _after(previous).values_list("pk", flat=True)
    young = ids.filter(at__gt=finished, at__lte=now).first()
    old = ids.filter(at__lte=finished)
    last: int | None = (old if young is None else old.filter(pk__lt=young)).last()
    return last


def _complete_until(now: datetime) -> datetime:
    """Return the time from before which everything has come, with what was to be added to it."""
    if conf.AUDIT_SINK == DATABASE:
        return now
    try:
        from .stream import stream_at

        return min(now, stream_at(conf.AUDIT_SINK).waiting_since() or now)
    except (OperationalError, ImportError, ValueError, TypeError, AttributeError) as error:
        # Not its text, which may hold a part of the address, and so of a password.
        reason = type(error.__cause__ or error).__name__
        raise SealError(f"The stream cannot be asked what of the audit log waits in it: {reason}.") from error


def _wait_for_writers() -> None:
    """Return when all transactions have ended that were writing to the log when this was called.

    Only PostgreSQL has them and tells of them. SQLite has one writer at a time; elsewhere `SEAL_AFTER` has to do.
    """
    connection = connections[log().db]
    if connection.vendor != "postgresql":
        return

    def writers() -> set[str]:
        with connection.cursor() as cursor:
            cursor.execute(_WRITERS, [connection.ops.quote_name(AuditEvent._meta.db_table)])
            return {transaction for (transaction,) in cursor.fetchall()}

    began, waiting_for = monotonic(), writers()
    while waiting_for:
        if monotonic() - began > PATIENCE:
            raise SealError("A transaction that has written to the audit log stays open: seal again when it has ended.")
        sleep(0.05)
        waiting_for &= writers()
