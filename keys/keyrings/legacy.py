"""Keys of another system, which is asked for them; at its first use such a key can become ours."""

import logging
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from inspect import isawaitable, iscoroutinefunction
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.db import OperationalError, connections, models, router, transaction
from django.utils import timezone

from .. import actor, environment, moments, scopes, tokens
from ..actor import Service
from ..audit import statements
from ..conf import conf
from ..models import APIKey, KeyOrigin, fields, owners
from ..models.api_key import objection_of
from ..models.key_origin import LONGEST_SOURCE, ref_of, source_of
from ..models.validators import LONGEST_NAME, acceptable_name
from ..redaction import MASK, redacted
from .protocol import KeyStoreError

logger = logging.getLogger("api_keys")


@dataclass(frozen=True)
class LegacyKey(Service):
    """A key as the other system knows it: `request.auth` of its requests until it is adopted.

    `ref` names the record there, such as its primary key; without one, the digest of the token does. `owner` is an
    instance of a model in `KEYS["OWNERS"]`, or its reference, such as `auth.user:7`. Moments may be naive or aware.
    """

    # Not shown: a project may name the token itself, for which the keyring puts its digest.
    ref: Any = field(default="", repr=False)
    name: str = ""
    scopes: Sequence[str] = ()
    owner: models.Model | str | None = None
    is_active: bool = True
    expires_at: datetime | None = None
    allowed_ips: Sequence[str] = ()
    prefix: str = ""
    created_at: datetime | None = None
    # The other system, as the keyring names it.
    source: str = field(default="", kw_only=True)

    def has_scope(self, scope: str) -> bool:
        """Tell whether the holder has the scope, by name or by a wildcard."""
        return scopes.grants(self.scopes, scope)

    @property
    def owner_ref(self) -> str:
        """Whose key it is, as APIKey has it; empty if it has no owner."""
        return _owner_ref(self.owner)

    @property
    def objection(self) -> str:
        """Why the key is refused, by a reason of AuditEvent; empty if it is accepted."""
        return objection_of(self.is_active, None if self.expires_at is None else moments.kept(self.expires_at))

    @property
    def actor_name(self) -> str:
        return f"key:{self.name}"

    @property
    def number(self) -> str:
        """A text for the key that no other key has, whatever its name is."""
        return f"{self.source}:{self.ref}"


class LegacyKeyring:
    """The keys of another system. Subclass it, write `look_up`, and put it behind `DatabaseKeyring()`.

    `source` names the system: a model, or its label such as `tokens.Token`, where the records are rows of a table here.
    A record that has become a key of ours is found no more, also when that key was deleted. With `adopts`, a record
    becomes a key of ours at its first use.
    """

    source: ClassVar[str | type[models.Model]] = ""
    adopts: ClassVar[bool] = False

    def __eq__(self, other: object) -> bool:
        """Equal guards share their decisions, so what a subclass holds counts too."""
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def look_up(self, token: str) -> LegacyKey | None:
        """Return the other system's record of this token; None if it has none. To be written by the project.

        Whatever it raises is answered with 503.
        """
        raise NotImplementedError

    def records(self) -> Iterable[LegacyKey]:
        """Return every record of the other system, for `keys_legacy`, in any order. May be written by the project."""
        raise NotImplementedError

    def is_configured(self) -> bool:
        return True

    @property
    def name(self) -> str:
        """The name of the class, for people."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    @property
    def origin(self) -> str:
        """The source as `KeyOrigin` has it; empty if there is none, or what stands there names none."""
        return "" if self.objection_to_source else source_of(self.source or "")

    @property
    def objection_to_source(self) -> str:
        """Why `source` cannot be used, to follow the name in a sentence; empty if it can, or is empty."""
        source: Any = self.source
        if not isinstance(source, str) and not (isinstance(source, type) and issubclass(source, models.Model)):
            return f"has source = {source!r}, which is neither a model nor a text."
        if isinstance(source, str) and len(source) > LONGEST_SOURCE:
            return f"has a source of more than {LONGEST_SOURCE} characters."
        return ""

    @property
    def mistakes(self) -> list[str]:
        """What of the class cannot work, to follow its name in sentences."""
        found = [self.objection_to_source] if self.objection_to_source else []
        if not self.has("look_up"):
            found.append("has no look_up().")
        elif iscoroutinefunction(self.look_up):
            found.append("has an asynchronous look_up(), which nobody awaits.")
        adopts: Any = self.adopts
        if not isinstance(adopts, bool):
            found.append(f"has adopts = {adopts!r}, which is no switch.")
        elif adopts and not self.origin and not self.objection_to_source:
            found.append("has adopts = True and no source, so that no key is adopted.")
        return found

    def has(self, method: str) -> bool:
        """Tell whether the project has written this method."""
        return getattr(type(self), method, None) is not getattr(LegacyKeyring, method)

    def find(self, token: str) -> APIKey | LegacyKey | None:
        """Return the record of the token, or the key that it has become; None if there is none, or none any more.

        Changes nothing. Raises KeyStoreError if the other system cannot be asked, Error if our tables cannot.
        """
        record = self.record_of(token)
        return _key_of(token) if record is not None and has_come(record) else record

    def adopt(self, token: str, holder: APIKey | LegacyKey) -> APIKey | LegacyKey | None:
        """Make the record of a token, which is about to be used, a key of the same secret, and return that key.

        Returns the key of whoever was faster, the record itself if it cannot become a key, and None if its key has been
        deleted meanwhile. Raises Error if our tables cannot be read.
        """
        if self.adopts is not True or not isinstance(holder, LegacyKey) or not holder.source:
            return holder
        using = router.db_for_write(APIKey)
        for is_last in (False, True):
            try:
                return _make_key(token, holder, using)
            except Exception as error:  # of the database, of what is checked, of the project's receivers
                failure = error
            if (key := _key_of(token)) is not None or has_come(holder):
                return key
            # Of two at once a database may let one fail that goes through the next time.
            if is_last or connections[using].in_atomic_block or not isinstance(failure, OperationalError):
                break
        _tell_failure(failure, token, holder)
        return holder

    def sound(self, record: LegacyKey, token: str = "") -> LegacyKey:
        """Return the record as guards, the log and a key can have it, without the token.

        Raises ValueError, with a sentence that shows nothing of it.
        """
        if not isinstance(record, LegacyKey):
            raise ValueError(
                f"It returned an object of {type(record).__name__}, which is neither a LegacyKey nor None."
            )
        ref, origin = record.ref, self.origin
        if token:
            ref = str(fields.digest(token)) if ref in (None, "") else ref_of(ref, token)
        prefix = fields.visible_prefix(token) if token else str(record.prefix or "")[: tokens.LONGEST_VISIBLE]
        return replace(
            record,
            ref=ref,
            name=_name(record.name, token) or prefix or f"A key of {origin or type(self).__name__}"[:LONGEST_NAME],
            scopes=_texts("scopes", record.scopes),
            owner=record.owner_ref,
            is_active=_switch(record.is_active),
            expires_at=_moment("expires_at", record.expires_at),
            allowed_ips=_texts("allowed_ips", record.allowed_ips),
            prefix=prefix,
            created_at=_moment("created_at", record.created_at),
            source=origin,
        )

    def record_of(self, token: str) -> LegacyKey | None:
        """Return the record of the token, whether or not it has become a key; None if there is none.

        Raises KeyStoreError if the other system cannot be asked, or its answer cannot be understood.
        """
        try:
            record: Any = self.look_up(token)
        except Exception as error:
            # Without its text: libraries for HTTP write addresses into it, and so perhaps the token.
            raise self._failed(f"look_up() raised {_where(error)}") from None
        if isawaitable(record):
            if isinstance(record, Coroutine):
                record.close()
            raise self._failed("look_up() is asynchronous, and nobody awaits it")
        try:
            return None if record is None else self.sound(record, token)
        except ValueError as error:
            raise self._failed(f"look_up() cannot be understood. {error}") from None
        except Exception as error:
            raise self._failed(f"what look_up() returned cannot be read: {_where(error)}") from None

    def _failed(self, what: str) -> KeyStoreError:
        sentence = f"The keys of {self.name} cannot be checked: {what.rstrip('.')}."
        logger.error("%s", sentence)
        return KeyStoreError(sentence)


def _make_key(token: str, record: LegacyKey, using: str) -> APIKey | None:
    key = APIKey(
        name=record.name, key=token, scopes=list(record.scopes), expires_at=record.expires_at,
        allowed_ips=list(record.allowed_ips), owner_ref=record.owner_ref,
    )  # fmt: skip
    key.made_at, key.creation_note = record.created_at, f"adopted from {record.source}"
    # By nobody else, whoever is logged in beside.
    with actor.acting_as(record.actor_name), transaction.atomic(using=using):
        # The key first: who is second waits for its row, and fails.
        key.save(using=using)
        KeyOrigin.objects.using(using).create(
            source=record.source, ref=record.ref, api_key_id=key.pk, at=timezone.now()
        )
    # Not the copy that knows the secret.
    return _key_of(token)


def _key_of(token: str) -> APIKey | None:
    return statements.find(fields.digests(token))


def has_come(record: LegacyKey) -> bool:
    """Tell whether the record has become a key, which may be gone by now. Raises Error."""
    if not record.source:
        return False
    using = router.db_for_write(APIKey)
    origins = KeyOrigin.objects.using(using).filter(source=record.source, ref=record.ref)
    # In somebody's transaction, a savepoint: a statement that fails must not break it.
    with transaction.atomic(using=using) if connections[using].in_atomic_block else nullcontext():
        return bool(origins.exists())


_told: set[str] = set()  # the sources of which this process has said that a key cannot be adopted


def _tell_failure(error: Exception, token: str, record: LegacyKey) -> None:
    if record.source in _told:
        return
    _told.add(record.source)
    said = error.message_dict if isinstance(error, ValidationError) and hasattr(error, "error_dict") else str(error)
    reason = redacted({"reason": " ".join(f"{type(error).__name__}: {said}".split())}, [token], conf.PREFIX)["reason"]
    logger.error(
        "Keys of %s are accepted and not adopted; the first of them is %s. %s", record.source, record.name, reason
    )


def _where(error: Exception) -> str:
    """Return the type of the exception, and the line of the project's method that it came through."""
    trace = error.__traceback__ and error.__traceback__.tb_next
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    return f"{name}, in line {trace.tb_lineno} of {trace.tb_frame.f_code.co_filename}" if trace else name


def _owner_ref(owner: Any) -> str:
    """Return the reference of an owner; one that no owner has for what can own no keys here, which is refused then."""
    if owner is None or isinstance(owner, str):
        label, colon, pk = (owner or "").partition(":")
        return f"{label.lower()}{colon}{pk}"
    with suppress(ValidationError):
        return owners.ref_of(owner)
    kind = owner.__class__
    label = getattr(getattr(kind, "_meta", None), "label_lower", kind.__name__.lower())
    return f"{label}:{getattr(owner, 'pk', '')}"[: owners.MAX_LENGTH]


def _name(name: Any, token: str) -> str:
    """Return the name as a key may have it, in which the token is masked."""
    text = "" if name is None else str(name)
    bare = tokens.bare(token, conf.PREFIX)
    if token and text.strip() in (token, bare):
        return ""
    if len(bare) >= tokens.PREFIX_LENGTH:
        text = text.replace(bare, MASK)
    name = acceptable_name(text)
    # Without an id in the log, it would be taken for a key of that variable.
    return acceptable_name(f"key:{name}") if name.startswith(environment.PREFIX) else name


def _texts(what: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"Its {what} are no list of texts.")
    return tuple(value if isinstance(value, list | tuple) else sorted(value))


def _switch(value: Any) -> bool:
    if not isinstance(value, int | None):
        raise ValueError("Its is_active is neither True nor False.")
    return bool(value)


def _moment(what: str, value: Any) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise ValueError(f"Its {what} is no datetime.")
    try:
        return moments.kept(moments.instant(value))
    except (OverflowError, ValueError):  # at an end of the calendar
        return moments.kept(fields.LATEST if value.year > fields.EARLIEST.year else fields.EARLIEST)
