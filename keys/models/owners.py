"""Whose key it is: an instance of a model that `KEYS["OWNERS"]` names, kept as a text such as `auth.user:7`.

There is no foreign key: the models are the project's, and any primary key that has a text will do.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from inspect import isawaitable
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.signals import setting_changed
from django.db import Error, router
from django.db.models import Model
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


def are_on() -> bool:
    """Tell whether keys may have owners at all."""
    return bool(conf.OWNERS)


def models() -> Mapping[str, type[Model]]:
    """Return the models that may own keys, by the label in a reference. Raises ImproperlyConfigured."""
    return _models(tuple(conf.OWNERS))


@cache
def _models(labels: Sequence[str]) -> Mapping[str, type[Model]]:
    found = {}
    for label in labels:
        try:
            model = apps.get_model(label)
        except (LookupError, ValueError):
            raise ImproperlyConfigured(f'KEYS["OWNERS"] names {label!r}, and there is no such model.') from None
        if objection := objection_to_model(model):
            raise ImproperlyConfigured(f'KEYS["OWNERS"] names {label!r}: {objection}')
        found[label_of(model)] = model
    return found


def objection_to_model(model: type[Model]) -> str:
    """Return why no instance of the model can own keys, as a sentence; empty if they can."""
    if len(getattr(model._meta, "pk_fields", ())) > 1:
        return "its primary key is a composite one, which has no text."
    return "it is abstract, and has no rows." if model._meta.abstract else ""


def label_of(model: type[Model]) -> str:
    """Return the label of the model whose table has the row, for a proxy too."""
    return str((model._meta.concrete_model or model)._meta.label_lower)


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
    pk = owner.serializable_value(model._meta.pk.attname)
    if pk is None or owner._state.adding:
        raise ValidationError({"owner_ref": ValidationError(_("Save the owner first."), code="unsaved")})
    ref = f"{label_of(model)}:{pk}"
    try:
        validate_ref(ref)
    except ValidationError as error:
        raise ValidationError({"owner_ref": error}) from None
    return ref


def parse(ref: str) -> tuple[type[Model], Any]:
    """Return the model and the primary key of a reference. Raises ValidationError if they are none of an owner's."""
    label, colon, text = ref.partition(":")
    model = models().get(label)
    if not colon or model is None:
        listed = ", ".join(models()) or _("none")
        message = _("“%(ref)s” is no owner: write a model of %(listed)s, a colon and a primary key.")
        raise ValidationError(message, code="unlisted", params={"ref": printable(ref), "listed": listed})
    field: Any = model._meta.pk
    try:
        pk = getattr(field, "target_field", field).to_python(text)
        is_canonical = str(pk) == text and bool(text) and len(ref) <= MAX_LENGTH and printable(ref) == ref
    except (ValidationError, ValueError, TypeError, ArithmeticError):
        is_canonical = False
    if not is_canonical:
        message = _("“%(ref)s” is no owner: %(model)s has no such primary key.")
        raise ValidationError(message, code=MALFORMED, params={"ref": printable(ref)[:MAX_LENGTH], "model": label})
    return model, pk


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
    owner: Model | None = model._default_manager.using(router.db_for_write(model)).filter(pk=pk).first()
    # A database may take for equal what differs, such as `Anna` and `anna`.
    return owner if owner is not None and ref == f"{label_of(model)}:{owner.pk}" else None


def of(key: Any) -> Model | None:
    """Return the owner of a key, which the key remembers; None as `find` does."""
    found: tuple[str, Model | None] | None = key.__dict__.get("found_owner")
    if found is None or found[0] != key.owner_ref:
        found = (key.owner_ref, find(key.owner_ref) if key.owner_ref else None)
        key.__dict__["found_owner"] = found
    return found[1]


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
    """Tell whether the owner is active; one whose model has no `is_active` always is."""
    active = getattr(owner, "is_active", True)
    return bool(active() if callable(active) else active)


def may_have_keys(owner: Model | None) -> bool:
    """Tell whether keys of this owner are accepted: there is one, active, and `OWNER_IS_ALLOWED` does not say no.

    Raises OwnerUnknownError if that function fails.
    """
    return not objection_to_owner(owner)


def objection_to_owner(owner: Model | None) -> str:
    """Return why keys of this owner are refused: `GONE`, `INACTIVE` or `NOT_ALLOWED`; empty if they are accepted.

    Raises OwnerUnknownError if `OWNER_IS_ALLOWED` fails.
    """
    if owner is None:
        return GONE
    if not is_active(owner):
        return INACTIVE
    return NOT_ALLOWED if conf.OWNER_IS_ALLOWED and not _is_allowed(owner) else ""


def _is_allowed(owner: Model) -> bool:
    try:
        answer = import_string(conf.OWNER_IS_ALLOWED)(owner)
        if isawaitable(answer):
            answer.close()  # type: ignore[attr-defined]
            raise TypeError("it is asynchronous")
    except Exception as error:
        logger.exception('KEYS["OWNER_IS_ALLOWED"] failed for an owner.')
        raise OwnerUnknownError("OWNER_IS_ALLOWED failed") from error
    return bool(answer)


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting in {"KEYS", "INSTALLED_APPS"}:
        _models.cache_clear()


setting_changed.connect(_forget)
