"""Whose key it is: an instance of a model that `KEYS["OWNERS"]` names, kept as a text such as `auth.user:7`.

There is no foreign key: the models are the project's, and any primary key that has a text will do.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from difflib import get_close_matches
from functools import cache
from inspect import isawaitable
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.signals import setting_changed
from django.db import Error, connections, router, transaction
from django.db.models import BinaryField, IntegerField, Model
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from ..conf import conf
from ..redaction import printable

logger = logging.getLogger("api_keys")

MAX_LENGTH = 255  # characters of a reference
MAX_NAME = 150  # characters of an owner's name, where it is shown
MALFORMED = "malformed"
GONE, INACTIVE, NOT_ALLOWED = "gone", "inactive", "not allowed"  # why keys of an owner are refused


class OwnerUnknownError(Error):
    """Nobody can say now whether an owner may have keys. The answer is 503, as if it were the database."""


def label_of(model: type[Model]) -> str:
    """Return the label of the model whose table has the row, for a proxy too."""
    return str((model._meta.concrete_model or model)._meta.label_lower)


def are_on() -> bool:
    """Tell whether keys may have owners at all."""
    return bool(conf.OWNERS)


def models() -> Mapping[str, type[Model]]:
    """Return the models that may own keys, by the label in a reference. Raises ImproperlyConfigured."""
    return _models(tuple(conf.OWNERS))


@cache
def _models(labels: Sequence[str]) -> Mapping[str, type[Model]]:
    found: dict[str, type[Model]] = {}
    for label in labels:
        if objection := objection_to_label(label):
            raise ImproperlyConfigured(f'KEYS["OWNERS"] names {label!r}: {objection}')
        model = apps.get_model(label)
        if found.setdefault(label_of(model), model) is not model:
            raise ImproperlyConfigured(f'KEYS["OWNERS"] names {label!r}, and another model of the same rows.')
    return found


def objection_to_label(label: str) -> str:
    """Return why instances of the model of that name can own no keys, as a sentence; empty if they can."""
    try:
        model = apps.get_model(label)
    except (LookupError, ValueError):
        return _objection_to_unknown(label)
    if model._meta.swapped:
        return f"it is swapped out for {model._meta.swapped}. Write settings.AUTH_USER_MODEL for the user."
    if len(getattr(model._meta, "pk_fields", ())) > 1:
        return "its primary key is a composite one, which has no text."
    if isinstance(_ending(model._meta.pk), BinaryField):
        return "its primary key is binary, which has no text."
    if label_of(model) == "keys.apikey" or "keys.apikey" in map(label_of, model._meta.all_parents):
        return "it is the key itself."
    return ""


def _objection_to_unknown(label: str) -> str:
    app, _point, name = label.partition(".")
    try:
        known = [model._meta.label for model in apps.get_app_config(app).get_models()]
    except LookupError:
        return f"no app in INSTALLED_APPS has the label {app!r}."
    near = get_close_matches(f"{app}.{name}".lower(), map(str.lower, known), n=1)
    meant = [f" Did you mean {one}?" for one in known if one.lower() in near]
    return "".join(["there is no such model.", *meant])


def _ending(field: Any) -> Any:
    """Return the field at the end of a primary key that is a relation, such as that of a model's child."""
    while field.is_relation:
        field = field.target_field
    return field


def model_for(kind: type[Model]) -> type[Model] | None:
    """Return the listed model whose row an instance of this class has: its own, or a parent's; None if none is."""
    for parent in kind.mro():
        meta = getattr(parent, "_meta", None)
        if meta is not None and not meta.abstract and (listed := models().get(label_of(parent))) is not None:
            return listed
    return None


def ref_of(owner: Model) -> str:
    """Return the reference of an owner, such as `auth.user:7`.

    Raises ValidationError for an instance of a model that is not listed, and for one that has not been saved.
    """
    # Not `type()`, which of `request.user` is that of the lazy object around it.
    kind: type[Any] = owner.__class__
    model = model_for(kind) if hasattr(kind, "_meta") else None
    if model is None:
        named = getattr(getattr(kind, "_meta", None), "label", kind.__name__)
        message = _('%(model)s is not in KEYS["OWNERS"]: its instances own no keys.')
        raise ValidationError({"owner_ref": ValidationError(message, code="unlisted", params={"model": named})})
    field: Any = model._meta.pk
    pk = owner.serializable_value(field.attname)
    if pk is None or owner._state.adding:
        raise ValidationError({"owner_ref": ValidationError(_("Save the owner first."), code="unsaved")})
    # An instance may hold the text of a UUID, from which its row makes one.
    ref = f"{label_of(model)}:{field.to_python(pk)}"
    try:
        validate_ref(ref)
    except ValidationError as error:
        raise ValidationError({"owner_ref": error}) from None
    return ref


def parse(ref: str) -> tuple[type[Model], Any]:
    """Return the model and the primary key of a reference. Raises ValidationError if they are none of an owner's."""
    label, colon, text = ref.partition(":")
    model = models().get(label)
    shown = printable(ref[:MAX_LENGTH])
    if not colon or model is None:
        listed = ", ".join(models())
        message = (
            _("“%(ref)s” is no owner: write a colon and a primary key after one of these: %(listed)s.")
            if listed
            else _("“%(ref)s” is no owner: no key has an owner here.")
        )
        raise ValidationError(message, code="unlisted", params={"ref": shown, "listed": listed})
    if len(ref) > MAX_LENGTH:
        message = _("“%(ref)s…” is too long: an owner is named in %(most)d characters at most.")
        raise ValidationError(message, code=MALFORMED, params={"ref": shown, "most": MAX_LENGTH})
    field: Any = model._meta.pk
    try:
        pk = field.to_python(text)
        if isinstance(number := _ending(field), IntegerField):
            number.run_validators(pk)  # no database takes a larger one than its column's
        is_canonical = str(pk) == text and bool(text) and printable(ref) == ref
    except (ValidationError, ValueError, TypeError, ArithmeticError):
        is_canonical = False
    if not is_canonical:
        message = _("“%(ref)s” is no owner: %(model)s has no such primary key.")
        raise ValidationError(message, code=MALFORMED, params={"ref": shown, "model": label})
    return model, pk


# A migration names it: it stays where it is.
def validate_ref(value: str) -> None:
    """Accept the reference of an owner of a listed model, whether or not there is one."""
    if value:
        parse(value)


def find(ref: str) -> Model | None:
    """Return the owner from the database that owners are written to; None if there is none, or none any more.

    What the model's default manager hides, as it does for rows that are only marked as deleted, is no owner.
    """
    try:
        model, pk = parse(ref)
    except ValidationError:
        return None
    # Not by `get()` or `first()`: what a manager joins may repeat a row, and an order may join more.
    rows = [*model._default_manager.using(router.db_for_write(model)).filter(pk=pk).order_by()[:1]]
    # A database may take for equal what differs, such as `Anna` and `anna`.
    return rows[0] if rows and ref == f"{label_of(model)}:{rows[0].pk}" else None


def of(key: Any) -> Model | None:
    """Return the owner of a key, which the key remembers; None as `find` does."""
    found: tuple[str, Model | None] | None = getattr(key, "__dict__", {}).get("found_owner")
    return found[1] if found is not None and found[0] == key.owner_ref else _look_up(key)


def _look_up(key: Any) -> Model | None:
    owner = find(key.owner_ref) if key.owner_ref else None
    # A holder of a keyring of the project's own may have no room to remember anything.
    getattr(key, "__dict__", {})["found_owner"] = (key.owner_ref, owner)
    return owner


def accept(key: Any) -> bool:
    """Tell whether the owner of the key may have keys: asked at each use, in the database that owners are written to.

    Raises Error if nobody can say. An open transaction outlives that.
    """
    with _answering(), _without_harm(key.owner_ref):
        # Read anew: a keyring of the project's own may return the same holder for many requests.
        return may_have_keys(_look_up(key))


@contextmanager
def _answering() -> Iterator[None]:
    """Turn what the project's own code raises, or its settings, into an answer that says: not now."""
    try:
        yield
    except Error:
        raise
    except Exception as error:
        logger.exception("It cannot be told whether the owner of a key may have keys.")
        raise OwnerUnknownError("Nobody can tell now whether the owner may have keys: what tells it fails.") from error


def _without_harm(ref: str) -> Any:
    """Return a savepoint where a transaction is open in the owner's database."""
    model = models().get(ref.partition(":")[0])
    alias = None if model is None else router.db_for_write(model)
    is_open = alias is not None and connections[alias].in_atomic_block
    return transaction.atomic(using=alias) if is_open else nullcontext()


def read(refs: Iterable[str]) -> dict[str, Model]:
    """Return owners by reference, with one query for each model; without those that are gone."""
    wanted: dict[type[Model], dict[str, Any]] = defaultdict(dict)
    for ref in {*refs} - {""}:
        try:
            model, pk = parse(ref)
        except ValidationError:
            continue
        wanted[model][ref] = pk
    found = {}
    for model, pks in wanted.items():
        rows = model._default_manager.using(router.db_for_write(model))
        for owner in rows.in_bulk([*pks.values()]).values():
            # Not only what the database takes for equal.
            if (ref := f"{label_of(model)}:{owner.pk}") in pks:
                found[ref] = owner
    return found


def names(refs: Iterable[str]) -> dict[str, str]:
    """Return the names of owners, by reference, with one query for each model; without those that are gone."""
    return {ref: name_of(ref, owner) for ref, owner in read(refs).items()}


def name_of(ref: str, owner: Model) -> str:
    """Return the name of an owner for people: printable, and cut; the reference if the owner cannot say one."""
    try:
        name = printable(str(owner)).strip()
    except Exception:
        # A `__str__` of the project's own: no list may stop because of it.
        name = ""
    return (name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…") or ref


def is_active(owner: Model) -> bool:
    """Tell whether the owner is active; one whose model has no `is_active` always is.

    Raises OwnerUnknownError if the owner's own `is_active()` fails.
    """
    with _answering():
        active = getattr(owner, "is_active", True)
        return _said(active() if callable(active) else active)


def may_have_keys(owner: Model | None) -> bool:
    """Tell whether keys of this owner are accepted: there is one, active, and `OWNER_IS_ALLOWED` does not say no.

    Raises OwnerUnknownError if that function fails, or the owner's own `is_active()`.
    """
    return not objection_to_owner(owner)


def objection_to_owner(owner: Model | None) -> str:
    """Return why keys of this owner are refused: `GONE`, `INACTIVE` or `NOT_ALLOWED`; empty if they are accepted.

    Raises OwnerUnknownError as `may_have_keys` does.
    """
    if owner is None:
        return GONE
    if not is_active(owner):
        return INACTIVE
    with _answering():
        is_allowed = not conf.OWNER_IS_ALLOWED or _said(import_string(conf.OWNER_IS_ALLOWED)(owner))
    return "" if is_allowed else NOT_ALLOWED


def _said(answer: Any) -> bool:
    if isawaitable(answer):
        if isinstance(answer, Coroutine):
            answer.close()
        raise TypeError("An asynchronous function tells whether an owner may have keys, and nobody awaits it.")
    return bool(answer)


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting in {"KEYS", "INSTALLED_APPS"}:
        _models.cache_clear()


setting_changed.connect(_forget)
