"""Operations on many keys. As `APIKey.save()` does, they check values and write an event for each change."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any, Self, TypeVar

from django.db import connections, models, router, transaction
from django.db.models import OuterRef, Q, Subquery
from django.utils import timezone

from . import changes, owners
from .audit_event import AuditEvent
from .fields import is_token, told_by
from .recorded import RecordedModel, refuse_twins, secrets_put_away
from .stale import is_computed

EXPIRES_SOON = timedelta(days=14)

Event = AuditEvent.Event
Key = TypeVar("Key", bound=RecordedModel)


def accepted_at(now: datetime) -> Q:
    """Return the condition of keys that are accepted at that time: those in which `APIKey.objection` finds nothing."""
    return Q(Q(expires_at=None) | Q(expires_at__gt=now), is_active=True)


class WrittenQuerySet(models.QuerySet[Key]):
    """Reads keys where they are written, whatever the router says of reading, unless a database is named by `using()`.

    Whoever reads a key decides something by it: a replica that lags knows keys as they were.
    """

    @property
    def db(self) -> str:
        return self._db or router.db_for_write(self.model, **self._hints)  # type: ignore[attr-defined]


class RecordedQuerySet(WrittenQuerySet[Key]):
    """Checks what is written, and writes an event for each key that it creates, changes or deletes."""

    deleting: frozenset[Any] = frozenset()  # see RecordedModel

    def bulk_create(
        self,
        objs: Iterable[Key],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        update_fields: Collection[str] | None = None,
        unique_fields: Collection[str] | None = None,
    ) -> list[Key]:
        """Create many keys, each with its event, all or none. Raises ValidationError as `save()` does.

        Raises ValueError for `ignore_conflicts` and `update_conflicts`, which do not report what they did.
        """
        if ignore_conflicts or update_conflicts:
            raise ValueError("Keys cannot be created with ignore_conflicts or update_conflicts.")
        keys = list(objs)
        for key in keys:
            key.validate()
        self._for_write = True
        refuse_twins(self.model, self.db, [vars(key).get("key") for key in keys])
        with secrets_put_away(keys), transaction.atomic(using=self.db):
            created = super().bulk_create(keys, batch_size)
            for key in created:
                key.in_row(key.computed_fields(), self.db).record_creation(key.creation_note, using=self.db)
        for key in created:
            key.remember()
        return created

    def update(self, **kwargs: Any) -> int:
        """Update many rows, each with its event, all or none. Raises ValidationError as `save()` does."""
        computed = {name for name, value in kwargs.items() if is_computed(value)}
        for name in self.model.CHECKED & kwargs.keys() - computed:
            kwargs[name] = self.model._meta.get_field(name).clean(kwargs[name], None)  # type: ignore[union-attr]
        if is_token(kwargs.get("key")):
            self._for_write = True
            refuse_twins(self.model, self.db, [kwargs["key"]], changed=self.values_list("pk"))
            kwargs |= told_by(kwargs["key"])
        # Whether a text holds a key depends on the row.
        pasted = {name for name, value in kwargs.items() if changes.may_hold_key(value)}
        return self._update_and_record(kwargs, (computed | pasted) & self.model.CHECKED)

    update.alters_data = True  # type: ignore[attr-defined]

    def _update_and_record(self, values: dict[str, Any], later: Collection[str] = ()) -> int:
        """Update the rows; check the fields named `later` in each row."""
        if any(self.model._meta.get_field(name).primary_key for name in values):  # type: ignore[union-attr]
            raise ValueError("The id of a key is its name in the log, and cannot be changed.")
        self._for_write = True
        with transaction.atomic(using=self.db):
            matching = self._locked()
            before = {key.pk: key.snapshot() for key in matching}
            # Only the locked rows: a row that matches since then would be changed without an event.
            rows = models.QuerySet.update(self.filter(pk__in=before), **values)
            for key in matching.all():
                held = before[key.pk]
                if later:  # their values, or what they mean, are known only now
                    key.validate({name for name in later if getattr(key, name) != held.get(name)})
                key.record_changes(held, using=self.db)
        return rows

    def bulk_update(self, objs: Iterable[Key], fields: Iterable[str], batch_size: int | None = None) -> int:
        """Update fields of many keys, each with its event, all or none. Raises ValidationError as `save()` does."""
        keys, names = list(objs), self.model.attributes_of(fields)
        if "key" in names:
            self._for_write = True
            refuse_twins(self.model, self.db, [key.key for key in keys], changed=[key.pk for key in keys])
        for key in keys:
            key.validate(names)
            if "key" in names and is_token(key.key):
                vars(key).update(told_by(key.key))
        if "key" in names:
            names |= {"prefix", "typed_by_hand"}
        rows = super().bulk_update(keys, list(names), batch_size)
        for key in keys:
            key.remember(names)
        return rows

    bulk_update.alters_data = True  # type: ignore[attr-defined]

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete many rows, each with its event, all or none."""
        self._for_write = True
        with transaction.atomic(using=self.db):
            matching = self._locked()
            for key in matching:
                key.record_deletion(using=self.db)
            # Only the locked rows. Django's own checks, such as for a slice, still apply.
            rows = self.filter(pk__in=[key.pk for key in matching])
            rows.deleting = frozenset(key.pk for key in matching)
            return models.QuerySet.delete(rows)

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def _locked(self) -> models.QuerySet[Key]:
        """Lock the rows that match now, and return them."""
        pks = list(self.values_list("pk", flat=True))
        rows = self.model._base_manager.using(self.db).filter(pk__in=pks).select_for_update()
        len(rows)
        return rows


class Rows(RecordedQuerySet[Key]):
    """The rows for Django itself, which sets references to NULL with it when their target is deleted."""

    def update(self, **kwargs: Any) -> int:
        """Update many rows without a check, each with its event."""
        return self._update_and_record(kwargs)

    update.alters_data = True  # type: ignore[attr-defined]


class APIKeyQuerySet(RecordedQuerySet[Key]):
    def accepted(self) -> Self:
        """Return the keys that are accepted now."""
        return self.filter(accepted_at(timezone.now()))

    def owned_by(self, owner: models.Model) -> Self:
        """Return the keys of this owner. Raises ValidationError as `APIKey.owner` does."""
        return self.of_owner(owners.ref_of(owner))

    def of_owner(self, *refs: str) -> Self:
        """Return the keys of the owners with these references, who may be gone."""
        named = sorted({*refs} - {""})
        found = self.filter(owner_ref__in=named)
        if named and connections[self.db].vendor == "mysql":
            # It finds equal what differs in case, accents or blanks at the end, and compares both ends exactly.
            exact = [Q(owner_ref__startswith=ref, owner_ref__endswith=ref) for ref in named]
            found = found.filter(Q(*exact, _connector=Q.OR))
        return found

    def in_state(self, state: str) -> Self:
        """Return the keys whose `APIKey.state` is `state`. Raises KeyError for an unknown state."""
        now = timezone.now()
        accepted, refused = self.filter(accepted_at(now)), self.exclude(accepted_at(now))
        has_expired, soon = Q(is_active=True, expires_at__lte=now), Q(expires_at__lte=now + EXPIRES_SOON)
        return {
            "inactive": refused.exclude(has_expired),
            "expired": refused.filter(has_expired),
            "retiring": accepted.filter(replaced_by__isnull=False),
            "expiring": accepted.filter(soon, replaced_by=None),
            "active": accepted.filter(Q(expires_at=None) | ~soon, replaced_by=None),
        }[state]

    def with_last_used(self) -> Self:
        """Annotate each key with `last_used`, the time of its latest use in the audit log."""
        uses = AuditEvent.objects.latest_of("api_key_id", OuterRef("pk")).filter(event=Event.USED)
        return self.annotate(last_used=Subquery(uses.values("at")[:1]))


def unrecorded(model: type[Key], using: str) -> models.QuerySet[Key]:
    """Return the rows for a change whose event the caller writes."""
    return models.QuerySet(model, using=using)
