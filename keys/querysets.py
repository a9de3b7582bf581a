"""Many keys at once. What `APIKey.save()` promises holds here too: checked values, and an event for each change."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Self

from django.db import models, transaction
from django.db.models import OuterRef, Subquery

from .events import AuditEvent
from .fields import is_token, visible_prefix

if TYPE_CHECKING:
    from .models import APIKey


class APIKeyQuerySet(models.QuerySet["APIKey"]):
    def with_last_used(self) -> Self:
        """Annotate each key with `last_used`, the time of its latest use, from the audit log."""
        uses = AuditEvent.objects.latest_of("api_key_id", OuterRef("pk")).filter(event=AuditEvent.Event.USED)
        return self.annotate(last_used=Subquery(uses.values("at")[:1]))

    def bulk_create(
        self,
        objs: Iterable[APIKey],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        update_fields: Collection[str] | None = None,
        unique_fields: Collection[str] | None = None,
    ) -> list[APIKey]:
        """Create many keys at once, each with its event, all or none.

        Raises ValueError for `ignore_conflicts` and `update_conflicts`, which would not say what they did.
        """
        if ignore_conflicts or update_conflicts:
            raise ValueError("Keys cannot be created with ignore_conflicts or update_conflicts.")
        keys = list(objs)
        for key in keys:
            key.validate()
        self._for_write = True
        with transaction.atomic(using=self.db):
            created = super().bulk_create(keys, batch_size)
            for key in created:
                key.announce(AuditEvent.Event.CREATED)
        for key in created:
            key.remember()
        return created

    def update(self, **kwargs: Any) -> int:
        """Update many rows at once, each with its event, all or none. Raises ValidationError as `save()` does."""
        for name in self.model.CHECKED & kwargs.keys():
            if not hasattr(kwargs[name], "resolve_expression"):
                kwargs[name] = self.model._meta.get_field(name).clean(kwargs[name], None)  # type: ignore[union-attr]
        if is_token(kwargs.get("key")):
            kwargs["prefix"] = visible_prefix(kwargs["key"])
        self._for_write = True
        with transaction.atomic(using=self.db):
            matching = self.model._base_manager.using(self.db).filter(pk__in=list(self.values_list("pk", flat=True)))
            before = {key.pk: key.loaded for key in matching.select_for_update()}
            # Only what is locked: a row that came to match since would be changed without an event.
            rows = models.QuerySet.update(self.filter(pk__in=before), **kwargs)
            for key in matching.all():
                key.loaded = before[key.pk]
                key.announce_changes(key.changed_fields())
        return rows

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_update(self, objs: Iterable[APIKey], fields: Iterable[str], batch_size: int | None = None) -> int:
        """Update the fields of many keys at once, each with its event, all or none."""
        keys, names = list(objs), self.model.attributes_of(fields)
        for key in keys:
            key.validate(names)
            if "key" in names and is_token(key.key):
                key.prefix = visible_prefix(key.key)
        if "key" in names:
            names.add("prefix")
        rows = super().bulk_update(keys, list(names), batch_size)
        for key in keys:
            key.remember(names)
        return rows

    bulk_update.alters_data = True  # type: ignore[attr-defined]
