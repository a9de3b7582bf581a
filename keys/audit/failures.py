"""Tells why rows could not be written: because of the rows, or because the log cannot be written at all.

The first are set aside, one by one. The second wait, and nothing is set aside. Which error means what depends on the
database, its driver and its triggers, so the error alone decides only where it is plain. Otherwise a row that is known
to be good is tried, and taken back.
"""

from django.db import InterfaceError, OperationalError, router, transaction
from django.utils import timezone

from ..models import APIKey
from ..models.audit_event import BLANK, AuditEvent, Row
from . import statements
from .outcomes import new_ticket

# Classes of SQLSTATEs that no row is the reason of: connections, transactions (a deadlock, a database that cannot be
# written), rights to connect, resources, locks, operators, files.
NOT_THE_ROWS = ("08", "25", "28", "3D", "40", "53", "55", "57", "58")


def look_into(error: Exception) -> None:
    """Return if the rows are the reason of the error.

    Raises the error if the database is away or busy, and that of a good row if it cannot be written either.
    """
    if isinstance(error, MemoryError) or _is_plain(error):
        raise error
    _try_good_row()


def _is_plain(error: Exception) -> bool:
    """Tell whether the error itself says that no row is its reason."""
    state = getattr(error.__cause__, "sqlstate", None) or ""
    if state:
        return isinstance(state, str) and state.startswith(NOT_THE_ROWS)
    return isinstance(error, OperationalError | InterfaceError)  # the connection was lost


def _try_good_row() -> None:
    at = timezone.now()
    row: Row = {**BLANK, "at": at, "event": AuditEvent.Event.USED.value, "ticket": new_ticket(at)}
    alias = router.db_for_write(APIKey)
    with transaction.atomic(using=alias):
        statements.ship([row])
        transaction.set_rollback(True, using=alias)
