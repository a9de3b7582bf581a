"""Reads the records of any table: which of its fields say what, page by page, each as a key or with an obstacle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.db import DataError, Error, connections, router, transaction
from django.db.models import JSONField, Model
from django.db.models.constants import LOOKUP_SEP

from .. import moments
from ..models import owners
from ..models.fields import Digest
from ..models.key_origin import ref_of
from ..models.validators import acceptable_name
from ..redaction import printable
from . import hashes, values
from .granting import Grants
from .taking import PAGE, Found, Left
from .values import ObstacleError

# The fields of which there may be one each, in the order in which they are told.
ROLES = ("key", "name", "active", "revoked", "created", "expires", "owner", "prefix", "scope_field")
UNREADABLE = "the database cannot read it"
NO_OWNER = "it has no owner: a run without --owner takes it"
OWNER_GONE = "its owner is gone"


class TableError(Exception):
    """A model or a field is not what an import can read; in a sentence."""


class _KeyError(ObstacleError):
    """What the record holds is no key, or no digest of one."""


class _NameError(ObstacleError):
    """The name is, or holds, the secret, and so is not said either."""


def find_model(label: str) -> type[Model]:
    """Return the model of that label. Raises TableError."""
    try:
        model = apps.get_model(label)
    except (LookupError, ValueError):
        known = [model._meta.label for model in apps.get_models()]
        near = get_close_matches(label.lower(), map(str.lower, known), n=1)
        meant = "".join(f" Did you mean {one}?" for one in known if one.lower() in near)
        raise TableError(f"There is no model {label}: is its app in INSTALLED_APPS?{meant}") from None
    if model._meta.swapped:
        raise TableError(f"{label} is swapped out for {model._meta.swapped}: name that.")
    if owners.label_of(model) == "keys.apikey":
        raise TableError(f"{label} is the table of keys itself.")
    return model


def check_field(model: type[Model], path: str) -> Any:
    """Return the last field of a path such as `user__username`. Raises TableError if it names no single value."""
    found: Any = None
    at: Any = model
    for part in path.split(LOOKUP_SEP):
        if isinstance(found, JSONField):
            return found  # the rest is within its value
        if at is None:
            raise TableError(f"{path} of {model._meta.label} goes on after {found.name}, which leads nowhere.")
        found = at._meta.pk if part == "pk" else _field(at, part)
        if found.many_to_many or found.one_to_many:
            raise TableError(
                f"{path} of {model._meta.label} leads to many rows, and a key takes one value."
                " Scopes may also come from a map of names, by --scope-map alone."
            )
        if (found.related_model if found.is_relation else getattr(found, "column", None)) is None:
            raise TableError(f"{path} of {model._meta.label} is no column.")
        at = found.related_model if found.is_relation else None
    return found


def _field(model: type[Model], name: str) -> Any:
    try:
        return model._meta.get_field(name)
    except FieldDoesNotExist:
        known = sorted({one.name for one in model._meta.get_fields() if one.concrete or one.one_to_one})
        near = get_close_matches(name, known, n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise TableError(f"{model._meta.label} has no field {name}.{meant} It has: {', '.join(known)}.") from None


@dataclass
class Table:
    """The records of a model, and which of its fields say what of a key.

    `paths` are by ROLES. `digest` is one of `hashes.KINDS`. `using` is the database, by default where the model is
    written. `objection` is why none of the records can come. `shorten` makes a prefix of what the field holds.
    Raises TableError for what cannot be read.
    """

    model: type[Model]
    paths: Mapping[str, str]
    digest: str
    grants: Grants = field(default_factory=Grants)
    using: str = ""
    objection: str = ""
    shorten: Callable[[str], str] = str

    def __post_init__(self) -> None:
        # A replica that lags would leave out the newest.
        self.using = self.using or router.db_for_write(self.model)
        if self.using not in connections:
            raise TableError(f"settings.DATABASES has no {self.using}.")
        found = {role: check_field(self.model, path) for role, path in self.paths.items()}
        for role, path in self.paths.items():
            if role != "key" and path == self.paths["key"]:
                raise TableError(f"{path} holds the key: --{role.replace('_', '-')} is another field.")
        self._owners = _Owners(self.model, self.paths["owner"], found["owner"]) if "owner" in found else None
        self._columns = dict(self.paths)
        if self._owners is not None and found["owner"].is_relation:
            # The key of the row that it leads to, whatever column it goes by, and what that column holds.
            self._columns |= {"owner": f"{self.paths['owner']}{LOOKUP_SEP}pk", "owner_column": self.paths["owner"]}
        key = found["key"]
        self._pk_is_key = bool(getattr(key, "primary_key", False)) and LOOKUP_SEP not in self.paths["key"]
        columns = [*dict.fromkeys(self._columns.values())]
        self._followed = [column for column in columns if self._is_followed(column)]
        self._local = [column for column in columns if column not in self._followed]
        self._read_rows = 0

    def _is_followed(self, column: str) -> bool:
        first = column.partition(LOOKUP_SEP)[0]
        relation = LOOKUP_SEP in column and first != "pk" and self.model._meta.get_field(first).is_relation
        inherited = first != "pk" and self.model._meta.get_field(first).model._meta.concrete_model
        return bool(relation) or inherited is not self.model._meta.concrete_model

    def __len__(self) -> int:
        return int(self._rows().count())

    def pages(self) -> Iterator[Sequence[Found | Left]]:
        """Yield the records in the order of their primary keys, a page at a time."""
        after: Any = None
        while page := self._page(after):
            after = page[-1][0]
            yield self._with_owners([self._record(pk, held) for pk, held in page])

    def _rows(self) -> Any:
        return self.model._default_manager.using(self.using).order_by("pk")

    def _page(self, after: Any) -> list[tuple[Any, dict[str, Any] | None]]:
        """Return the next primary keys with the values of each record by column; None where it cannot be read."""
        rows = self._rows() if after is None else self._rows().filter(pk__gt=after)
        try:
            with self._without_harm():
                return [*self._values(rows[:PAGE]).items()]
        except Exception as error:
            _let_through(error)
            # One value that Python does not have, such as the year 20000, is not to hide the others.
            pks = [*rows.values_list("pk", flat=True)[:PAGE]]
            return [(pk, self._one(pk)) for pk in pks]

    def _one(self, pk: Any) -> dict[str, Any] | None:
        try:
            with self._without_harm():
                return self._values(self._rows().filter(pk=pk))[pk]
        except Exception as error:
            _let_through(error)
            return None

    def _values(self, rows: Any) -> dict[Any, dict[str, Any]]:
        read = {pk: dict(zip(self._local, row, strict=True)) for pk, *row in rows.values_list("pk", *self._local)}
        if self._followed:
            # For themselves: a join leaves out the record whose relation leads nowhere.
            there = self._rows().filter(pk__in=[*read]).values_list("pk", *self._followed)
            for pk, *row in there:
                read[pk] |= zip(self._followed, row, strict=True)
        return read

    def _without_harm(self) -> AbstractContextManager[Any]:
        """Return a savepoint where a transaction is open in that database."""
        is_open = connections[self.using].in_atomic_block
        return transaction.atomic(using=self.using) if is_open else nullcontext()

    def _record(self, pk: Any, held: dict[str, Any] | None) -> Found | Left:
        self._read_rows += 1
        if held is None:
            return Left(self._ref(pk, ""), self._shown(pk, "", {}), UNREADABLE)
        value = {role: held.get(column) for role, column in self._columns.items()}
        text = hashes.as_text(value["key"])
        try:
            if missing := [column for column in self._followed if column not in held]:
                raise ObstacleError(f"what {missing[0].removesuffix('__pk')} leads to is gone")
            if self.objection:
                raise ObstacleError(self.objection)
            return self._found(pk, value)
        except ObstacleError as obstacle:
            if isinstance(obstacle, _NameError):
                value["name"] = None
            has_no_key = isinstance(obstacle, _KeyError)
            return Left(self._ref(pk, text), self._shown(pk, text, value), str(obstacle), has_no_key)

    def _found(self, pk: Any, value: dict[str, Any]) -> Found:
        try:
            stored = hashes.read(value["key"], self.digest, self.paths["key"])
        except ObstacleError as obstacle:
            raise _KeyError(str(obstacle)) from None
        name = _name(value.get("name"))
        if name and stored.is_in(name):
            raise _NameError(f"{self.paths['name']} holds the key or a part of it")
        if value.get("owner_column") is not None and value["owner"] is None:
            raise ObstacleError(OWNER_GONE)
        ends = values.moment(value.get("expires"), self.paths.get("expires", ""))
        is_active = "active" not in self.paths or values.is_active(value["active"], self.paths["active"])
        if "revoked" in self.paths:
            is_revoked, at = values.revoked(value["revoked"], self.paths["revoked"])
            is_active = is_active and not is_revoked
            ends = min(filter(None, [ends, at]), key=moments.instant, default=None)
        prefix = stored.prefix
        if "prefix" in self.paths:
            prefix = hashes.kept_prefix(self.shorten(hashes.as_text(value["prefix"])), stored)
        shown = self._shown(pk, stored.text, value)
        return Found(
            ref=self._ref(pk, stored.text, stored),
            shown=shown,
            name=acceptable_name(name) or prefix or acceptable_name(shown),
            digests=stored.digests,
            prefix=prefix,
            typed_by_hand=stored.typed_by_hand,
            is_active=is_active,
            created_at=values.past(value.get("created"), self.paths.get("created", "")),
            expires_at=ends,
            owner_ref=self._owners.ref_of(value["owner"]) if self._owners is not None else "",
            scopes=self.grants.of(value.get("scope_field"), name, self.paths.get("scope_field", "")),
        )

    def _ref(self, pk: Any, text: str, stored: hashes.Stored | None = None) -> str:
        """Return what KeyOrigin calls the record, also one that cannot be read, whose field of the key holds `text`."""
        if self._pk_is_key and self.digest == hashes.PLAIN:
            return ref_of(pk, str(pk))  # with the blanks around it, if there are any
        key: str = Digest(text) if self.digest != hashes.PLAIN or not text else text
        if stored is not None and not stored.is_plain:
            key = stored.digests[0]
        return ref_of(bytes(pk).hex() if isinstance(pk, bytes | memoryview) else pk, key)

    def _shown(self, pk: Any, text: str, value: Mapping[str, Any]) -> str:
        """Return how people are told of the record: by its primary key, or if that is the key or holds it, by its name.

        `text` is what the field of the key holds.
        """
        said = str(pk)
        is_secret = self._pk_is_key or isinstance(pk, bytes | memoryview) or (text and text in said)
        if is_secret or (isinstance(pk, str) and hashes.may_be_secret(said)):
            name = _name(value.get("name"))
            holds_secret = hashes.may_be_secret(name) or hashes.share_a_part(name, text) or (text and text in name)
            said = name if name and not holds_secret else f"(row {self._read_rows})"
        return f"{self.model._meta.label} {printable(said)}"

    def _with_owners(self, page: Sequence[Found | Left]) -> Sequence[Found | Left]:
        """Return the records; those whose owner is gone as obstacles."""
        if self._owners is None:
            return page
        there = owners.read(record.owner_ref for record in page if isinstance(record, Found))
        return [
            Left(record.ref, record.shown, OWNER_GONE)
            if isinstance(record, Found) and record.owner_ref not in there
            else record
            for record in page
        ]


class _Owners:
    """Whom a field names as the owner. Raises TableError if it can be none."""

    def __init__(self, model: type[Model], path: str, found: Any) -> None:
        self._path = path
        self._model: type[Model] | None = None
        listed = owners.models()
        if not listed:
            raise TableError('Keys have no owners here: KEYS["OWNERS"] is empty.')
        if found.is_relation:
            self._model = owners.model_for(found.related_model)
            if self._model is None:
                led = found.related_model._meta.label
                raise TableError(f'{path} leads to {led}, which is not in KEYS["OWNERS"].')
        elif len(listed) == 1:
            (self._model,) = listed.values()

    def ref_of(self, value: Any) -> str:
        """Return the reference of the owner. Raises ObstacleError."""
        text = str(value).strip() if value is not None else ""
        if not text:
            raise ObstacleError(NO_OWNER)
        label, colon, pk = text.partition(":")
        if colon and label.lower() in owners.models():
            return f"{label.lower()}:{pk}"
        if self._model is None:
            raise ObstacleError(f'{self._path} says of no model in KEYS["OWNERS"] that it is one of these')
        key: Any = self._model._meta.pk
        try:
            return f"{owners.label_of(self._model)}:{key.to_python(value)}"
        except Exception:
            raise ObstacleError(f"{self._path} is no primary key of an owner") from None


def _let_through(error: Exception) -> None:
    """Raise what says nothing of one value: a field of the project's own may raise anything else where it reads one."""
    if isinstance(error, Error) and not isinstance(error, DataError):
        raise error


def _name(value: Any) -> str:
    return "" if value is None else hashes.as_text(value) or (str(value) if isinstance(value, int) else "")
