"""Tracks what a copy of a row changed since it was loaded, so that an old copy undoes no other change."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from functools import cache
from typing import Any, Self

from django.db import models
from django.db.models.fields.files import FieldFile

from ..tokens import Secret
from .fields import Digest, KeyField, digest


class StaleKeyError(Exception):
    """A copy of a key would overwrite a field that others changed since the copy was loaded."""


@cache
def _attribute_names(model: type[models.Model]) -> tuple[str, ...]:
    return tuple(field.attname for field in model._meta.concrete_fields if not field.primary_key)


# Values of these very types are as the row holds them. Asked first, because every look-up of a key asks.
_PLAIN = frozenset({type(None), str, int, bool, float, datetime, Digest})


def _stored(value: Any) -> Any:
    """Return a value as the row holds it; what can be changed in place is copied, so that later changes to it show."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Secret):
        return digest(value)
    if isinstance(value, list | tuple):
        return [_stored(item) for item in value]
    if isinstance(value, dict):
        return {name: _stored(item) for name, item in value.items()}
    return str(value) if isinstance(value, FieldFile) else value


def is_computed(value: Any) -> bool:
    """Tell whether the value is an expression, such as `F("name")`, which the database computes."""
    return hasattr(value, "resolve_expression")


class TrackedModel(models.Model):
    """A model whose instances remember the row's values from when they were loaded or last saved."""

    class Meta:
        abstract = True

    loaded: dict[str, Any] | None = None

    @classmethod
    def from_db(cls, db: str | None, field_names: Collection[str], values: Collection[Any], **kwargs: Any) -> Self:
        copy = super().from_db(db, field_names, values, **kwargs)
        copy.loaded = copy.snapshot()
        return copy

    def refresh_from_db(
        self, using: str | None = None, fields: Iterable[str] | None = None, *args: Any, **kwargs: Any
    ) -> None:
        names = None if fields is None else list(fields)
        super().refresh_from_db(using, names, *args, **kwargs)
        self.remember(None if names is None else self.attributes_of(names))

    @classmethod
    def attributes_of(cls, names: Iterable[str]) -> set[str]:
        """Return the attributes of the named fields, e.g. `replaced_by_id`. Raises FieldDoesNotExist."""
        return {getattr(cls._meta.get_field(name), "attname", name) for name in names}

    def snapshot(self) -> dict[str, Any]:
        """Return a copy of every loaded field, with a secret as its digest."""
        state = self.__dict__
        return {name: _stored(state[name]) for name in _attribute_names(type(self)) if name in state}

    def remember(self, names: Collection[str] | None = None) -> None:
        """Take the values of the named fields, or of all loaded ones, as those in the row now."""
        fresh = {name: value for name, value in self.snapshot().items() if names is None or name in names}
        self.loaded = {**(self.loaded or {}), **fresh}

    def changed_fields(self) -> dict[str, Any]:
        """Return the fields whose values differ from the loaded ones, with their new values."""
        before = self.loaded or {}
        return {name: value for name, value in self.snapshot().items() if name not in before or before[name] != value}

    def computed_fields(self) -> set[str]:
        """Return the fields that hold an expression: what it comes to, only the row knows."""
        return {name for name, value in self.snapshot().items() if is_computed(value)}

    def read_values(self, names: Collection[str] | None = None) -> None:
        """Read what was assigned to the named fields, or to all, as the fields do: for them, `"False"` is not true.

        Raises ValidationError for what a field cannot read.
        """
        for field in self._meta.concrete_fields:
            value = self.__dict__.get(field.attname)
            is_named = field.attname in self.__dict__ if names is None else field.attname in names
            # A key is hashed, and who assigns a digest has no key.
            if is_named and not isinstance(field, KeyField) and not is_computed(value):
                setattr(self, field.attname, field.to_python(value))

    def locked_row(self, using: str, model: type[Self] | None = None) -> Self | None:
        """Lock the row, or that of the model named, and return a copy of it as it is now; None if it is not there."""
        return (model or type(self))._base_manager.using(using).select_for_update().filter(pk=self.pk).first()

    def lock_and_compare(self, using: str, changed: dict[str, Any]) -> dict[str, Any]:
        """Lock the row, and return the values that it holds of the fields whose changes it does not hold yet.

        Raises StaleKeyError if it holds neither the value that this copy loaded nor the one it would write.
        """
        row, before = self.locked_row(using), self.loaded or {}
        if row is None:
            return {name: before.get(name) for name in changed}
        held = row.snapshot()
        for name, value in changed.items():
            if held[name] not in (before.get(name, held[name]), value):
                raise StaleKeyError(
                    f"{name} of {self} has been changed since this copy was loaded: refresh_from_db() and try again."
                )
        return {name: held[name] for name, value in changed.items() if held[name] != value}
