"""Lets one process at a time change the keys of an owner, so that their number can be counted and holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections, router, transaction

from ..models import APIKey, owners
from ..models.querysets import RecordedQuerySet, unrecorded

LOCK = 0x6B6F776E  # the first half of PostgreSQL's number for the lock: "kown" in ASCII


@contextmanager
def locked(ref: str) -> Iterator[None]:
    """Keep all others who take this lock for the owner waiting until the end of the transaction, also of an outer one.

    What is counted inside is what others have committed. On PostgreSQL with REPEATABLE READ, that takes that the
    transaction begins here.
    """
    using = router.db_for_write(APIKey)
    with ExitStack() as transactions:
        if connections[using].vendor == "mysql":
            # First, so that it ends last, where it is one of another database.
            transactions.enter_context(_owner_locked(ref))
        begins = not connections[using].in_atomic_block and connections[using].get_autocommit()
        transactions.enter_context(transaction.atomic(using=using))
        if connections[using].vendor == "postgresql":
            # No lock of the owner's row: it may be in another database, and that needs the right to change it.
            with connections[using].cursor() as cursor:
                if begins:
                    # In REPEATABLE READ it would know the keys as they were when it began to wait for the lock.
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
                cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [LOCK, ref])
        elif connections[using].vendor == "sqlite":
            # It lets one writer in at a time, from its first write on: one that begins by reading fails instead.
            unrecorded(APIKey, using).filter(pk=-1).update(name="")
        yield


def number_of(rows: RecordedQuerySet[Any]) -> int:
    """Return how many keys there are, inside of `locked`."""
    if connections[rows.db].vendor == "mysql":
        # A transaction may know the keys as they were at its first read: what locks them reads what is there now.
        return len(rows.select_for_update().values_list("pk", flat=True))
    return rows.count()


@contextmanager
def _owner_locked(ref: str) -> Iterator[None]:
    """Lock the row of the owner, who may have no keys yet that could be locked."""
    model, pk = owners.parse(ref)
    rows: Any = model._base_manager.using(router.db_for_write(model))
    with transaction.atomic(using=rows.db):
        list(rows.select_for_update().filter(pk=pk).values_list("pk", flat=True))
        yield
