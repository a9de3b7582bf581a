"""Takes the triggers of the audit log out of the way of `migrate`, and puts them back afterwards.

What is wanted is noted in the database, so nothing depends on the process that began: see `triggers`.
"""

import logging
from collections.abc import Sequence
from typing import Any

from django.core.management import CommandError
from django.db import Error, connections

from .places import migrated_place
from .triggers import LOG, VENDORS, Guarded, TriggerError

logger = logging.getLogger("api_keys")


def make_way(*, using: str, plan: Sequence[tuple[Any, bool]] = (), **kwargs: object) -> None:
    """Receiver of `pre_migrate`: drop the triggers, which name columns that a migration may take away or change.

    SQLite refuses such a migration, PostgreSQL drops the trigger with the column. Raises CommandError.
    """
    if not any(migration.app_label == "keys" for migration, _ in plan) or (guarded := _migrated(using)) is None:
        return
    if guarded.wanted() is not None:
        try:
            guarded.drop()
        except Error as error:
            raise CommandError(
                "The triggers of keys_guard stand in the way of a migration, and this database user may not drop them:"
                " migrate as the user that owns the audit log."
            ) from error


def put_back(*, using: str, **kwargs: object) -> None:
    """Receiver of `post_migrate`: create the triggers that were asked for, for the columns that there are now.

    Whatever has taken them: this migration, or an earlier one that was killed.
    """
    if (guarded := _migrated(using)) is None or (wanted := guarded.wanted()) is None:
        return
    try:
        if LOG not in guarded.columns:
            guarded.remove()
        elif guarded.faults(wanted):
            guarded.install(wanted)
    except (Error, TriggerError) as error:
        logger.error("The triggers of the audit log are not as they should be; run keys_guard install: %s", error)


def _migrated(using: str) -> Guarded | None:
    """Return the log that `migrate` works on; None where there is none, or no triggers are possible."""
    connection = connections[using]
    if connection.vendor not in VENDORS or migrated_place(using) is None:
        return None
    return Guarded(connection)
