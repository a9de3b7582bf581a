"""What a life-cycle event says of a change: field by field the old and the new value, in JSON and in words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import SimpleNamespace
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.utils.translation import gettext as _

from .. import moments, tokens
from ..redaction import MASK, SHORTEST_SOUGHT, printable, without_token
from .fields import KeyField, is_token, stored, told_by

Changes = dict[str, list[Any]]
Clean = Callable[[str], str]

MOST = 4096  # characters of one value
DEPTH = 20  # of lists and dictionaries within each other
# A project's own field of such a name may hold a secret of another service.
_SECRET_NAME = re.compile(r"token|secret|passw|credential|private|api_?key|signature", re.IGNORECASE)
# One of such a class keeps its value from whoever reads the database, and so from whoever reads the log.
_SECRET_CLASS = re.compile(r"crypt|cipher|fernet|secret|passw", re.IGNORECASE)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00\Z")


def between(
    model: type[models.Model],
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    names: Collection[str],
    *,
    of: Any = None,
) -> Changes:
    """Return the old and the new value of each field, by its name.

    `before` and `after` are values by attribute, None where there was or is no row; `names` are attributes; `of` is the
    key, whose values may be of another table. The key itself is left out: the field `prefix` tells which one it is.
    Never fails, whatever the values are.
    """
    old, new = before or {}, after or {}
    fields = [field for field in model._meta.concrete_fields if field.attname in names]
    held = [old, new] if of is None else [old, new, {"key": stored(of.key), "prefix": _shown_of(of)}]
    digests = {str(values["key"]) for values in held if values.get("key")}
    clean = partial(_clean, digests, any(values.get("prefix") == "" for values in held))
    return {
        field.name: [_written(field, values.get(field.attname), clean) for values in (old, new)]
        for field in fields
        if not isinstance(field, KeyField)
    }


def _clean(digests: Collection[str], may_have_blanks: bool, text: str) -> str:
    """Return the text, printable and without the key itself, as far as an event tells the text."""
    near = text[: MOST + tokens.MAX_PRESENTED_LENGTH]
    return printable(without_token(near, digests, with_blanks=may_have_blanks))


def without_key(text: str, key: Any) -> str:
    """Return the text, printable, and without this very key where somebody has pasted it."""
    return printable(without_token(text, {str(stored(key.key))}, with_blanks=not _shown_of(key)))


def may_hold_key(text: Any) -> bool:
    """Tell whether somebody may have pasted a key into the text."""
    return isinstance(text, str) and len(text) >= SHORTEST_SOUGHT


def holds_key(text: Any, key: Any) -> bool:
    """Tell whether somebody has pasted this very key into the text."""
    return may_hold_key(text) and without_key(text, key) != printable(text)


def _shown_of(key: Any) -> str:
    """Return what is shown of a key. Keys of which something is have no blanks in them."""
    return str(told_by(key.key)["prefix"] if is_token(key.key) else key.prefix)


def _written(field: models.Field[Any, Any], value: Any, clean: Clean) -> Any:
    """Return the value of a field as JSON. Times are in UTC."""
    if value is None:
        return None
    if _is_secret(field):
        return MASK
    try:
        return _bounded(_plain(value, partial(_text, field), clean))
    except Exception:
        # A value of a type of the project's own: no change may fail because it cannot be described.
        return f"({type(value).__name__})"


def _is_secret(field: models.Field[Any, Any]) -> bool:
    """Tell whether the field of a project may hold a secret, by its name and those of its classes."""
    classes = (kind.__name__ for kind in type(field).__mro__)
    return bool(_SECRET_NAME.search(field.name)) or any(map(_SECRET_CLASS.search, classes))


def _text(field: models.Field[Any, Any], value: Any) -> str:
    """Return a value of another type as a fixture holds it."""
    return str(field.value_to_string(SimpleNamespace(**{field.attname: value})))  # type: ignore[arg-type]


def _plain(value: Any, text: Callable[[Any], str], clean: Clean, depth: int = 0) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, str):
        return clean(str(value))
    if isinstance(value, datetime):
        return moments.instant(value).isoformat()
    if depth < DEPTH and isinstance(value, list | tuple):
        return [_plain(item, str, clean, depth + 1) for item in value]
    if depth < DEPTH and isinstance(value, Mapping):
        return {clean(str(name)): _plain(item, str, clean, depth + 1) for name, item in value.items()}
    return clean(text(value))


def _bounded(value: Any) -> Any:
    """Return the value, cut and marked where it is too long for a row of the log."""
    if isinstance(value, str):
        return value if len(value) <= MOST else f"{value[:MOST]}…"
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= MOST:
        return value
    if not isinstance(value, list):
        return f"{text[:MOST]}…"
    kept, size = [], 0
    for item in value:
        size += len(json.dumps(item, ensure_ascii=False)) + 2
        if size > MOST:
            break
        kept.append(item)
    return [*kept, f"… {len(value) - len(kept)} more"]


def lines(model: type[models.Model], changes: Any) -> list[tuple[str, str, str, str]]:
    """Return the changes for people: the name of each field, its label, its old value and its new one.

    Empty for anything else than changes: a database may hold what nobody here wrote.
    """
    if not isinstance(changes, Mapping):
        return []
    order = {field.name: number for number, field in enumerate(model._meta.concrete_fields)}
    pairs = [(name, pair) for name, pair in changes.items() if isinstance(pair, list) and len(pair) == 2]
    pairs.sort(key=lambda named: (order.get(named[0], len(order)), named[0]))
    return [(name, _label(model, name), _said(old), _said(new)) for name, (old, new) in pairs]


def _label(model: type[models.Model], name: str) -> str:
    try:
        return str(model._meta.get_field(name).verbose_name)  # type: ignore[union-attr]
    except (FieldDoesNotExist, AttributeError):
        return name  # of a project's subclass


def _said(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return _("none")
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_said(item) for item in value)
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False)
    text = str(value)
    return moments.exactly(datetime.fromisoformat(text)) if _MOMENT.match(text) else text
