"""How a key is saved: values are checked, an old copy undoes nothing, and each change writes an event."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from typing import Any, ClassVar

from django.db import router, transaction

from .. import actor, signals
from ..tokens import Secret
from .audit_event import AuditEvent
from .fields import stored, visible_prefix
from .stale import TrackedModel

Event = AuditEvent.Event


@contextmanager
def secrets_put_away(keys: Iterable[RecordedModel]) -> Iterator[None]:
    """Let the keys hold their digests for a while, as the row does, and give them their secrets back in the end.

    Signals hand a key to receivers of other packages, which write down what they read of it.
    """
    held = [(key, secret) for key in keys if isinstance(secret := key.__dict__.get("key"), Secret)]
    digests = [stored(secret) for _, secret in held]
    for (key, secret), digest in zip(held, digests, strict=True):
        key.prefix, key.key = visible_prefix(secret), digest
    try:
        yield
    finally:
        for (key, secret), digest in zip(held, digests, strict=True):
            # A receiver may have given it another one.
            if key.__dict__.get("key") is digest:
                key.key = secret


class RecordedModel(TrackedModel):
    """A model that checks its changes, and writes an event in the transaction of each."""

    CHECKED: ClassVar[frozenset[str]]  # fields that are checked whenever they are written
    key: Any
    prefix: Any
    is_active: Any

    class Meta:
        abstract = True

    def validate(self, names: Collection[str] | None = None) -> None:
        """Raise ValidationError if a checked field, limited to `names` if given, holds an invalid value."""
        checked = self.CHECKED if names is None else self.CHECKED.intersection(names)
        self.clean_fields(exclude={field.name for field in self._meta.fields} - checked)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save what this copy changed, with an event in the same transaction.

        Raises ValidationError for an invalid value, and StaleKeyError if a field that this copy changed was
        changed by others since it was loaded. Call `refresh_from_db()` after a rollback: this copy takes its
        changes for saved.
        """
        if self._state.adding or self.pk is None or self.loaded is None:
            self.validate()
            self._insert(*args, **kwargs)
        else:
            with secrets_put_away([self]):
                self._save_changes(*args, **kwargs)

    save.alters_data = True  # type: ignore[attr-defined]

    def _insert(self, *args: Any, **kwargs: Any) -> None:
        using = self._alias(kwargs.get("using"))
        with secrets_put_away([self]), transaction.atomic(using=using):
            super().save(*args, **kwargs)
            self.record(Event.CREATED, using=using)
        self.remember()

    def _save_changes(self, *args: Any, update_fields: Iterable[str] | None = None, **kwargs: Any) -> None:
        names = set(self.changed_fields())
        if update_fields is not None:
            names &= self.attributes_of(update_fields)
        self.validate(names)
        using = self._alias(kwargs.get("using"))
        with transaction.atomic(using=using):
            changes = {name: value for name, value in self.changed_fields().items() if name in names}
            if written := list(self.lock_and_compare(using, changes)) if changes else []:
                super().save(*args, update_fields=[*written, *(["prefix"] if "key" in written else [])], **kwargs)
                self.record_changes(written, using=using)
        self.remember({*names, "prefix"})

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Delete the row, with an event in the same transaction. Its other events stay."""
        using = self._alias(kwargs.get("using"))
        with secrets_put_away([self]), transaction.atomic(using=using):
            self.record(Event.DELETED, using=using)
            return super().delete(*args, **kwargs)

    delete.alters_data = True  # type: ignore[attr-defined]

    def _alias(self, using: str | None = None) -> str:
        """Return the alias of the database in which this key is changed: `using`, else where the router writes it."""
        return using or router.db_for_write(type(self), instance=self)

    def record(self, event: str, detail: str = "", *, using: str) -> None:
        """Write a life-cycle event of this key in the transaction of the change, and send its signals.

        `using` is the database of the change; the key itself may have been read from a replica.
        """
        AuditEvent.record_step(event, detail, using=using, key=self)
        signals.key_changed.send(sender=type(self), key=self, event=event, detail=detail)
        if signals.key_life_cycle.receivers:
            # The copy has no secret; the instance that created the key still has it.
            notify = partial(
                signals.key_life_cycle.send_robust,
                sender=type(self), key=copy(self), event=str(event), detail=detail, actor=actor.current(),
            )  # fmt: skip
            transaction.on_commit(notify, using=using, robust=True)

    def record_changes(self, changed: Collection[str], *, using: str) -> None:
        """Write which fields changed; (de)activating a key is an event of its own."""
        if "is_active" in changed:
            self.record(Event.ACTIVATED if self.is_active else Event.DEACTIVATED, using=using)
        if others := [name for name in changed if name not in {"is_active", "prefix"}]:
            self.record(Event.CHANGED, ", ".join(others), using=using)
