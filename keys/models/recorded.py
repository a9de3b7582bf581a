"""How a key is saved: values are checked, an old copy undoes nothing, and each change writes an event."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from functools import partial
from typing import Any, ClassVar, Self

from django.db import IntegrityError, models, router, transaction
from django.db.models.signals import pre_delete

from .. import actor, signals
from ..tokens import Secret
from . import changes
from .audit_event import LOADED, AuditEvent
from .changes import Changes
from .fields import Sought, digests, is_token, stored, told_by
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
        vars(key).update(told_by(secret))
        key.key = digest
    try:
        yield
    finally:
        for (key, secret), digest in zip(held, digests, strict=True):
            # A receiver may have given it another one.
            if key.__dict__.get("key") is digest:
                key.key = secret


def refuse_twins(model: type[RecordedModel], using: str, keys: Iterable[Any], *, changed: Collection[Any] = ()) -> None:
    """Raise IntegrityError if a token is that of a key here by another digest; `changed` are ids not to look at.

    No constraint can know that both are one secret, and whoever deactivates one key would leave the other.
    """
    others = [Sought(digest) for key in keys if is_token(key) for digest in digests(key)[1:]]
    rows = root_of(model)._base_manager.using(using).exclude(pk__in=changed)
    if any(rows.filter(key__in=others[start : start + 500]).exists() for start in range(0, len(others), 500)):
        raise IntegrityError("This key is here already, by another digest.")


class RecordedModel(TrackedModel):
    """A model that checks its changes, and writes an event in the transaction of each."""

    CHECKED: ClassVar[frozenset[str]]  # fields that are checked whenever they are written
    UNTOLD: ClassVar[frozenset[str]]  # fields that the event of a new key leaves out
    key: Any
    prefix: Any
    typed_by_hand: Any
    is_active: Any
    # What the event of a new key says of how it came here.
    creation_note: str = ""
    # The rows whose deletion is on record while it goes on: nobody records it again.
    deleting: frozenset[Any] = frozenset()

    class Meta:
        abstract = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Django calls no method of a row that it deletes with another one. Whatever calls ours is recorded without it.
        pre_delete.connect(_record_cascade, sender=cls, dispatch_uid=__name__)

    def validate(self, names: Collection[str] | None = None) -> None:
        """Read the values of all fields or the named ones. Raise ValidationError for one that is invalid.

        What the database is to compute can be checked only in the row.
        """
        self.read_values(names)
        checked = self.CHECKED if names is None else self.CHECKED.intersection(names)
        self.clean_fields(exclude={field.name for field in self._meta.fields} - (checked - self.computed_fields()))

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save what this copy changed, with an event in the same transaction.

        Raises ValidationError for an invalid value, IntegrityError for a key that is here already, and StaleKeyError
        if a field that this copy changed was changed by others since it was loaded. Call `refresh_from_db()` after a
        rollback: this copy takes its changes for saved.
        """
        if self._state.adding or self.pk is None or self.loaded is None:
            self.validate()
            self._refuse_twin(kwargs.get("using"))
            self._insert(*args, **kwargs)
        else:
            if "key" in self.changed_fields():
                self._refuse_twin(kwargs.get("using"))
            with secrets_put_away([self]):
                self._save_changes(*args, **kwargs)

    save.alters_data = True  # type: ignore[attr-defined]

    def _refuse_twin(self, using: str | None) -> None:
        held, changed = self.__dict__.get("key"), [] if self.pk is None else [self.pk]
        refuse_twins(type(self), self._alias(using), [held], changed=changed)

    def _insert(self, *args: Any, **kwargs: Any) -> None:
        using = self._alias(kwargs.get("using"))
        with secrets_put_away([self]), transaction.atomic(using=using):
            # With an id of its own it may write over a row.
            held = None if self.pk is None else self._held(using)
            super().save(*args, **kwargs)
            row = self.in_row(self.computed_fields(), using)
            if held is None:
                row.record_creation(self.creation_note, using=using)
            else:
                row.record_changes(held, using=using)
        self.remember()

    def _held(self, using: str) -> dict[str, Any] | None:
        """Lock the row, and return its values; None if it is not there. A row of a parent may be without the child."""
        for model in (type(self), root_of(type(self))):
            if (row := self.locked_row(using, model)) is not None:
                return row.snapshot()
        return None

    def _save_changes(self, *args: Any, update_fields: Iterable[str] | None = None, **kwargs: Any) -> None:
        names = set(self.changed_fields())
        if update_fields is not None:
            names &= self.attributes_of(update_fields)
        if "key" in names:
            names |= {"prefix", "typed_by_hand"}
        self.validate(names)
        using = self._alias(kwargs.get("using"))
        with transaction.atomic(using=using):
            # What was assigned may be, once it is read, what was there.
            changed = {name: value for name, value in self.changed_fields().items() if name in names}
            if held := self.lock_and_compare(using, changed) if changed else {}:
                super().save(*args, update_fields=[*held], **kwargs)
                self.in_row(self.computed_fields().intersection(held), using).record_changes(held, using=using)
        self.remember(names)

    def in_row(self, computed: Collection[str], using: str) -> Self:
        """Return this copy, or its row if the database has computed one of its fields, which are checked there."""
        if not computed:
            return self
        row = type(self)._base_manager.using(using).get(pk=self.pk)
        row.validate(computed)
        return row

    def _save_table(
        self,
        raw: bool = False,
        cls: Any = None,
        force_insert: Any = False,
        force_update: bool = False,
        using: Any = None,
        update_fields: Any = None,
    ) -> Any:
        """Record what is saved as it is, by `loaddata` or a package that puts rows back.

        Django calls no other method of the model then: `save_base()` is called by the name of its class.
        """
        save = partial(
            super()._save_table, raw=raw, cls=cls, force_insert=force_insert, force_update=force_update, using=using,  # type: ignore[misc]
            update_fields=update_fields,
        )  # fmt: skip
        if not raw:
            return save()
        if isinstance(token := self.__dict__.get("key"), Secret):  # which somebody wrote into a fixture
            vars(self).update(told_by(token))
        # A fixture holds the tables of a parent and its child as rows of their own.
        rows = cls._base_manager.using(using)
        names = [field.attname for field in cls._meta.local_concrete_fields if not field.primary_key]
        with transaction.atomic(using=using):
            before = rows.select_for_update().filter(pk=self.pk).order_by("pk").values(*names)
            held = None if self.pk is None else before.first()
            saved = save()
            self._record_loaded(cls, held, rows.values(*names).get(pk=self.pk), using)
        return saved

    _save_table.alters_data = True  # type: ignore[attr-defined]

    def _record_loaded(self, model: Any, held: dict[str, Any] | None, now: dict[str, Any], using: str) -> None:
        """Record that a row of this table was put in, or put back as `now`, in place of what it `held`."""
        root = root_of(model)
        # Where the child's row came first, the key's own is not there yet, and its name not known.
        key = root._base_manager.using(using).filter(pk=self.pk).first() or self
        if held is None and model is root:
            key.record_creation(LOADED, using=using)
        else:
            key.record_changes(held or dict.fromkeys(now), now, LOADED, model=model, using=using)
        self.remember(now)

    def delete(self, using: str | None = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        """Delete the row, with an event in the same transaction. Its other events stay."""
        alias = self._alias(using)
        with secrets_put_away([self]), transaction.atomic(using=alias):
            if (row := self.locked_row(alias)) is not None:
                row.record_deletion(using=alias, keep_parents=keep_parents)
            self.deleting = frozenset([self.pk])
            try:
                return super().delete(using=alias, keep_parents=keep_parents)
            finally:
                del self.deleting

    delete.alters_data = True  # type: ignore[attr-defined]

    def _alias(self, using: str | None = None) -> str:
        """Return the alias of the database in which this key is changed: `using`, else where the router writes it."""
        return using or router.db_for_write(type(self), instance=self)

    def record(self, event: str, detail: str = "", changed: Changes | None = None, *, using: str) -> None:
        """Write a life-cycle event of this key in the transaction of the change, and send its signals.

        `changed` is what `changes.between` returns. `using` is the database of the change; the key itself may have
        been read from a replica.
        """
        AuditEvent.record_step(event, detail, changed or {}, using=using, key=self)
        _send(event, detail, [(self, changed or {})], using)

    def record_creation(self, note: str = "", *, using: str) -> None:
        """Write that the key is new, with what it may do."""
        self.record_creations([self], note, using=using)

    @classmethod
    def record_creations(cls, keys: Iterable[RecordedModel], note: str = "", *, using: str) -> None:
        """Write of each of the keys that it is new, with what it may do, in few statements."""
        steps: list[tuple[RecordedModel, Changes]] = []

        def each() -> Iterator[tuple[RecordedModel, Changes]]:
            # One key after the other: what is found in a name is remembered for the next text that is the same.
            for key in keys:
                steps.append((key, changes.between(type(key), None, *key._told(), of=key)))
                yield steps[-1]

        AuditEvent.record_steps(Event.CREATED, note, each(), using=using)
        _send(Event.CREATED, note, steps, using)

    def record_deletion(self, note: str = "", *, using: str, keep_parents: bool = False) -> None:
        """Write that the key is deleted, with what it could do. With `keep_parents` only what a subclass adds is."""
        held, names = self._told()
        if keep_parents and root_of(type(self)) is not type(self):
            own = {field.attname: held.get(field.attname) for field in self._meta.local_concrete_fields}
            self.record_changes(own, dict.fromkeys(own), note, using=using)
        else:
            self.record(Event.DELETED, note, changes.between(type(self), held, None, names, of=self), using=using)

    def _told(self) -> tuple[dict[str, Any], list[str]]:
        """Return this copy's values, and which of them the first and the last event of a key tell."""
        values = self.snapshot()
        shown = [name for name, value in values.items() if name == "scopes" or value not in (None, "", [], {})]
        return values, [name for name in shown if name not in self.UNTOLD]

    def record_changes(
        self,
        before: Mapping[str, Any],
        after: Mapping[str, Any] | None = None,
        note: str = "",
        *,
        model: type[models.Model] | None = None,
        using: str,
    ) -> None:
        """Write which fields changed, from which value to which; (de)activating a key is an event of its own.

        `before` are the values that the row held, by attribute; `after` is what it holds now, by default what this
        copy does. `model` is the one whose fields they are.
        """
        after, model = self.snapshot() if after is None else after, model or type(self)
        changed = {name for name in before if name in after and before[name] != after[name]}
        if "is_active" in changed:
            event = Event.ACTIVATED if after["is_active"] else Event.DEACTIVATED
            self.record(event, note, changes.between(model, before, after, {"is_active"}, of=self), using=using)
        rest = changed - {"is_active"}
        # They go with the key.
        said = rest - {"prefix", "typed_by_hand"} if "key" in rest else rest
        if named := [field.name for field in model._meta.concrete_fields if field.attname in said]:
            detail = ", ".join(named)
            detail = f"{note}: {detail}" if note else detail
            self.record(Event.CHANGED, detail, changes.between(model, before, after, rest, of=self), using=using)


def _send(event: str, detail: str, steps: Sequence[tuple[RecordedModel, Changes]], using: str) -> None:
    """Send the signals of one event of some keys, each with its changes."""
    told: dict[str, Any] = {"event": event, "detail": detail}
    for key, changed in steps:
        signals.key_changed.send(sender=type(key), key=key, changes=changed, **told)
    if signals.key_life_cycle.receivers:
        told = {"event": str(event), "detail": detail, "actor": actor.current()}
        kept = _kept(steps)

        def notify() -> None:
            for key, changed in kept():
                signals.key_life_cycle.send_robust(sender=type(key), key=key, changes=changed, **told)

        transaction.on_commit(notify, using=using, robust=True)


def _kept(steps: Sequence[tuple[RecordedModel, Changes]]) -> Callable[[], Sequence[tuple[RecordedModel, Changes]]]:
    """Return what returns copies of the keys after the commit, without secrets, which the instances still have.

    Many are packed, as an import keeps a hundred thousand.
    """
    if len(steps) > 1:
        with suppress(Exception):  # a field of the project's own may hold what cannot be
            packed = zlib.compress(pickle.dumps(steps), 1)
            return lambda: pickle.loads(zlib.decompress(packed))  # noqa: S301  of this process
    copies = [(copy(key), changed) for key, changed in steps]
    return lambda: copies


def root_of(model: type[models.Model]) -> type[Any]:
    """Return the model whose row is the key: a project's subclass has a table of its own for what it adds."""
    parents = [parent for parent in model.mro() if issubclass(parent, RecordedModel) and hasattr(parent, "_meta")]
    return [parent for parent in parents if not parent._meta.abstract][-1]._meta.concrete_model  # type: ignore[return-value]


def _record_cascade(
    sender: type[models.Model], instance: RecordedModel, using: str, origin: Any = None, **kwargs: Any
) -> None:
    """Record that a key is deleted with another row; the deletions that somebody asked for are on record."""
    if root_of(sender) is sender._meta.concrete_model and instance.pk not in getattr(origin, "deleting", ()):
        model = getattr(origin, "model", None) or type(origin)
        with_it = "" if origin is None else f"with {model._meta.label}"
        with secrets_put_away([instance]):
            instance.record_deletion(with_it, using=using)
