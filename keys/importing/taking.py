"""Makes keys of those that another system holds, without their secrets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import router, transaction

from ..models import APIKey
from ..models.fields import Digest
from ..models.querysets import unrecorded
from ..models.validators import acceptable_name

BATCH_SIZE = 500


@dataclass(frozen=True)
class Found:
    """A key of another package; `obstacle` says why it cannot be imported."""

    name: str
    created_at: datetime
    digest: str
    prefix: str
    is_active: bool = True
    expires_at: datetime | None = None
    obstacle: str = ""

    def key(self, scopes: Sequence[str] | None) -> APIKey:
        """Return the key as it is saved here, with the default scopes if `scopes` is None."""
        key = APIKey(
            name=acceptable_name(self.name.strip() or self.prefix),
            key=Digest(self.digest),
            prefix=self.prefix,
            is_active=self.is_active,
            expires_at=self.expires_at,
        )
        if scopes is not None:
            key.scopes = list(scopes)
        return key


@dataclass(frozen=True)
class Report:
    """How many keys were imported, how many were here before, and how many were not imported, by obstacle."""

    imported: int
    here_already: int
    left: Counter[str]


def take_over(found: Iterable[Found], *, scopes: Sequence[str] | None = None, dry_run: bool = False) -> Report:
    """Import the keys that have no obstacle and are not here yet, all or none, and return the numbers.

    Without `scopes` they get `KEYS["DEFAULT_SCOPES"]`. With `dry_run` nothing is written. Raises ValidationError.
    """
    using = router.db_for_write(APIKey)
    known = set(APIKey._base_manager.using(using).values_list("key", flat=True))
    here_already, left = 0, Counter[str]()
    new: list[tuple[Found, APIKey]] = []
    for one in found:
        if one.obstacle:
            left[one.obstacle] += 1
        elif one.digest in known:
            here_already += 1
        else:
            new.append((one, one.key(scopes)))
    for _, key in new:
        key.validate()
    if not dry_run:
        with transaction.atomic(using=using):
            APIKey.objects.bulk_create([key for _, key in new], BATCH_SIZE)
            for one, key in new:
                key.created_at = one.created_at
            # Not in the log: each key has just got its created event.
            unrecorded(APIKey, using).bulk_update([key for _, key in new], ["created_at"], BATCH_SIZE)
    return Report(len(new), here_already, left)
