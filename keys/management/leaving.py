"""Which records of another system have become keys, which have not, and what became of those keys."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from django.core.management.base import CommandError
from django.db.models import Max
from django.utils.module_loading import import_string

from .. import tokens
from ..endpoints import legacy_keyrings
from ..keyrings import LegacyKey, LegacyKeyring
from ..models import APIKey, AuditEvent, KeyOrigin
from ..models.audit_event import logged_name
from ..models.fields import visible_prefix
from ..models.key_origin import possible_refs
from ..redaction import MASK

PAGE = 500  # records that are held at once

WAITING, CAME, DEACTIVATED, DELETED, REFUSED = "waiting", "came", "deactivated", "deleted", "refused there"


@dataclass(frozen=True)
class Departure:
    """One record, and what has become of it.

    `state` is `waiting`, `came`, `deactivated` or `deleted` (here, after it came) or `refused there` (inactive or
    expired, so that it never comes). `key_id` is the key that it became. `last_used_at` is the latest use in our log of
    an old key of that name, before it came.
    """

    source: str
    ref: str
    name: str
    prefix: str
    state: str
    key_id: int | None
    last_used_at: datetime | None


def keyrings(named: Sequence[str]) -> list[LegacyKeyring]:
    """Return the keyrings with these dotted paths, or all that the project's views have, one for each source.

    Raises CommandError.
    """
    if not named:
        return list({ring.origin or ring.name: ring for ring in legacy_keyrings()}.values())
    return [_named(path) for path in named]


def _named(path: str) -> LegacyKeyring:
    try:
        found: Any = import_string(path)
        ring = found() if isinstance(found, type) else found
    except Exception as error:
        raise CommandError(f"{path} cannot be made: {type(error).__name__}.", returncode=2) from None
    if not isinstance(ring, LegacyKeyring):
        raise CommandError(f"{path} is no LegacyKeyring.", returncode=2)
    return ring


def obstacle(ring: LegacyKeyring) -> str:
    """Return why nobody can tell which records have come, as a sentence; empty if it can be told."""
    if not ring.origin:
        return f"{ring.name} has no source: nobody can tell which of its keys have come."
    if not ring.has("records"):
        return f"{ring.name} has no records(): nobody can tell which keys of {ring.origin} have not come yet."
    return ""


def came(ring: LegacyKeyring) -> int:
    """Return how many records of the source have become keys, by imports too."""
    return int(_origins(ring).count())


def departures(ring: LegacyKeyring) -> Iterator[Departure]:
    """Yield every record of the other system with what has become of it. Raises CommandError if they cannot be read."""
    records, are_tokens = _sound(ring, _read(ring)), None
    while page := list(islice(records, PAGE)):
        if are_tokens is None:
            are_tokens = _is_token(ring, page[0])
        yield from _of_page(ring, page, are_tokens)


def _read(ring: LegacyKeyring) -> Iterator[Any]:
    try:
        yield from ring.records()
    except Exception as error:
        # Without its text, which may hold a key.
        raise _unreadable(ring, f"it raised {type(error).__name__}") from None


def _sound(ring: LegacyKeyring, records: Iterable[Any]) -> Iterator[LegacyKey]:
    for record in records:
        try:
            sound = ring.sound(record)
        except ValueError as error:
            raise _unreadable(ring, str(error).rstrip(".")) from None
        if sound.ref in (None, ""):
            raise _unreadable(ring, "a record has no ref, by which it would be known")
        yield sound


def _unreadable(ring: LegacyKeyring, why: str) -> CommandError:
    return CommandError(f"records() of {ring.name} cannot be read: {why}.", returncode=2)


def _is_token(ring: LegacyKeyring, record: LegacyKey) -> bool:
    """Tell whether the project names the token itself as the reference, as far as anybody can tell."""
    text = str(record.ref)
    with suppress(Exception):
        return tokens.is_presentable(text) and ring.look_up(text) is not None
    return True


def _is_secret(ref: str) -> bool:
    """Tell whether the reference looks like a key, as the primary key of authtoken is one."""
    with suppress(ValueError):
        return not uuid.UUID(ref)
    return tokens.looks_random(ref) and not tokens.is_digest(ref)


def _of_page(ring: LegacyKeyring, page: Sequence[LegacyKey], are_tokens: bool) -> Iterator[Departure]:
    refs = [possible_refs(record.ref) for record in page]
    wanted = {each for pair in refs for each in pair}
    origins = dict(_origins(ring).filter(ref__in=wanted).values_list("ref", "api_key_id"))
    active = dict(APIKey.objects.filter(pk__in={*origins.values()}).values_list("pk", "is_active"))
    waiting = {
        logged_name(record.name) for record, pair in zip(page, refs, strict=True) if not origins.keys() & {*pair}
    }
    uses = AuditEvent.objects.written().filter(api_key=None, event=AuditEvent.Event.USED, key_name__in=waiting)
    used = dict(uses.order_by().values_list("key_name").annotate(Max("at"))) if waiting else {}
    for record, pair in zip(page, refs, strict=True):
        key_id = next((origins[ref] for ref in pair if ref in origins), None)
        last = used.get(logged_name(record.name)) if key_id is None else None
        state = _state(record, key_id, active)
        ref, name, prefix = pair[0], record.name, record.prefix
        if are_tokens or _is_secret(ref):
            ref, name = pair[1], name.replace(str(record.ref), MASK)
            prefix = visible_prefix(str(record.ref)) if prefix in str(record.ref) else prefix
        yield Departure(ring.origin, ref, name, prefix, state, key_id, last)


def _state(record: LegacyKey, key_id: int | None, active: dict[int, bool]) -> str:
    if key_id is None:
        return REFUSED if record.objection else WAITING
    if key_id not in active:
        return DELETED
    return CAME if active[key_id] else DEACTIVATED


def _origins(ring: LegacyKeyring) -> Any:
    return KeyOrigin.objects.using(APIKey.objects.db).filter(source=ring.origin)
