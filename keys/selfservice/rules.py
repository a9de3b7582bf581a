"""What users may do with keys of their own. The API and the pages translate; nothing else decides it.

Whoever calls these functions has asked `keys_of` whether it is a key of the user's, and lets `actor.answering` say who
the user is.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from ipaddress import collapse_addresses
from typing import Any

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import router
from django.db.models import Model
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from .. import lifecycle, moments, networks, scopes
from ..actor import is_person
from ..conf import conf, offered_scopes, self_service
from ..models import APIKey, owners
from ..models.querysets import APIKeyQuerySet
from ..models.stale import StaleKeyError
from .locks import locked, number_of

MOST_NETWORKS = 100  # of one key: each is read at each request
MOST_OF_A_REASON = 200  # characters: the log has room for no more
OWNERS_NAMED = 5  # to somebody who names none
CHANGEABLE = frozenset({"name", "scopes", "allowed_ips", "expires_at"})


class NotRotatableError(ValidationError):
    """A key that has a successor gets no other one."""


def owners_of(user: Any) -> dict[str, Model]:
    """Return the owners for which the user may act, by reference. Raises ImproperlyConfigured if there can be none."""
    if not owners.are_on():
        raise ImproperlyConfigured('Users look after their own keys only where KEYS["OWNERS"] names who may own keys.')
    # Some authenticators and backends let people in who have been deactivated.
    if not is_person(user) or not owners.is_active(user):
        return {}
    path = self_service()["OWNERS_OF"]
    said = import_string(path)(user) if path else [user]
    if isinstance(said, Coroutine):
        said.close()
    if said is not None and not isinstance(said, Iterable):
        raise ImproperlyConfigured(f'OWNERS_OF in KEYS["SELF_SERVICE"], {path}, returns no list of owners.')
    try:
        return {owners.ref_of(owner): owner for owner in said or ()}
    except ValidationError as error:
        where = f'OWNERS_OF in KEYS["SELF_SERVICE"], {path}' if path else "Users own their keys themselves"
        raise ImproperlyConfigured(f"{where}: {error.messages[0]}") from None


def keys_of(user: Any) -> APIKeyQuerySet[Any]:
    """Return the keys that the user may look after, in whatever state."""
    return APIKey.objects.of_owner(*owners_of(user))


def usual_scopes() -> list[str]:
    """Return the scopes of a key for which nobody names any."""
    may_give = offered_scopes()
    return [scope for scope in conf.DEFAULT_SCOPES if scope in may_give]


def beyond(held: Any) -> list[str]:
    """Return the scopes that a key got from an administrator, as they are beyond what users may give."""
    if not isinstance(held, list | tuple):
        return [str(held)]
    may_give = offered_scopes()
    return [scope for scope in held if not scopes.grants(may_give, scope)]


def latest_end(created_at: datetime | None = None) -> datetime | None:
    """Return when a key that was made then, or is made now, ends at the latest; None if it need not."""
    longest: timedelta | None = self_service()["LONGEST_LIFE"]
    if longest is None:
        return None
    try:
        return moments.after(created_at or timezone.now(), longest)
    except OverflowError:
        return None


def create(
    user: Any,
    *,
    name: str,
    owner: str = "",
    scopes: Sequence[str] | None = None,
    expires_at: datetime | None = None,
    allowed_ips: Sequence[str] = (),
) -> APIKey:
    """Make a key for one of the user's owners, and return it with its secret.

    `owner` is a reference; without it the key is of `usual_owner`. Without `scopes` it gets those of
    `KEYS["DEFAULT_SCOPES"]` that users may give. Without `expires_at` it ends at the latest moment. Raises
    ValidationError by field, OwnerUnknownError.
    """
    mine = owners_of(user)
    ref = _owner_among(mine, owner or usual_owner(user, mine))
    given = usual_scopes() if scopes is None else _once(scopes)
    _look_at_scopes(given)
    _look_at_networks(allowed_ips)
    end = latest_end()
    if expires_at is not None:
        expires_at = _read(expires_at)
        _look_at_end(expires_at, [end])
    with locked(ref):
        holder = _accepted_owner(ref)
        _look_at_number(ref, self_service()["MOST_KEYS"])
        return lifecycle.create(
            name, owner=holder, scopes=given, expires_at=expires_at or end, allowed_ips=_once(allowed_ips)
        )


def change(key: APIKey, /, **values: Any) -> APIKey:
    """Change `name`, `scopes`, `allowed_ips` and `expires_at` of a key that is accepted, save it, and return it.

    A key with scopes beyond what users may give is only narrowed. Raises ValidationError by field, StaleKeyError if
    others changed the same meanwhile.
    """
    values = {name: value for name, value in values.items() if name in CHANGEABLE}
    for name, read in (("scopes", _once), ("allowed_ips", _once), ("name", str.strip), ("expires_at", _read)):
        if values.get(name) is not None:
            values[name] = read(values[name])
    with _row_of(key) as row:
        if row.objection:
            raise ValidationError(_("This key is %(state)s, and cannot be changed.") % {"state": row.state})
        for name, look in (("scopes", _look_at_new_scopes), ("allowed_ips", _look_at_new_networks)):
            if name in values:
                look(row, values[name])
        if "expires_at" in values and values["expires_at"] != row.expires_at:
            _look_at_new_end(row, values["expires_at"])
        for name, value in values.items():
            setattr(key, name, value)
        # What is as it was may be what nobody could write today.
        unchanged = {field.name for field in key._meta.fields} - values.keys()
        key.full_clean(exclude=unchanged, validate_unique=False, validate_constraints=False)
        key.save()
    return key


def rotate(key: APIKey, grace: timedelta | None = None) -> APIKey:
    """Make the successor, and return it with its secret.

    Raises NotRotatableError if there is one already, RotationError for a key that is not accepted, ValidationError,
    StaleKeyError, OwnerUnknownError.
    """
    longest: timedelta | None = self_service()["LONGEST_LIFE"]
    if grace is None:
        grace = min(conf.ROTATION_GRACE, longest or timedelta.max)
    if grace < timedelta(0) or (longest is not None and grace > longest):
        raise ValidationError({"grace": _("The grace is between 0 and the longest life of a key.")})
    with _row_of(key) as row:
        if row.replaced_by_id is not None:
            raise NotRotatableError(_("This key has been rotated already."))
        if given := beyond(row.scopes):
            message = _("This key holds “%(scope)s”, which you may not give: ask an administrator to rotate it.")
            raise ValidationError(message, code="beyond", params={"scope": given[0]})
        _accepted_owner(row.owner_ref)
        if grace and not row.objection:
            _look_at_number(row.owner_ref, self_service()["MOST_KEYS"] + 1)
        successor = key.rotate(grace)
        end = latest_end(successor.created_at)
        if end is not None and _is_later(successor.expires_at, end):
            successor.expires_at = end
            successor.save()
    return successor


def deactivate(key: APIKey, reason: str = "") -> None:
    """Refuse the key from the next request on. Raises ValidationError for a reason that is too long, StaleKeyError."""
    if len(reason) > MOST_OF_A_REASON:
        message = _("The reason has at most %(most)d characters.")
        raise ValidationError({"reason": ValidationError(message, params={"most": MOST_OF_A_REASON})})
    with _row_of(key):
        key.deactivate(reason)


@contextmanager
def _row_of(key: APIKey) -> Iterator[APIKey]:
    """Lock the keys of the owner and then this one, and yield it as it is now, which is what rules look at.

    Raises StaleKeyError if it has been deleted, or has another owner now.
    """
    with locked(key.owner_ref):
        row = key.locked_row(router.db_for_write(APIKey))
        if row is None or row.owner_ref != key.owner_ref:
            raise StaleKeyError(f"{key} has been changed meanwhile.")
        yield row


def usual_owner(user: Any, mine: Mapping[str, Model]) -> str:
    """Return whose a key is if nobody says so: of the only owner, or of the user; empty if it has to be said."""
    if len(mine) == 1:
        return next(iter(mine))
    try:
        own = owners.ref_of(user)
    except ValidationError:
        return ""
    return own if own in mine else ""


def _owner_among(mine: dict[str, Model], ref: str) -> str:
    if not ref and mine:
        message, some = _("Say whose key it is, such as %(owners)s."), ", ".join(list(mine)[:OWNERS_NAMED])
        raise ValidationError({"owner": ValidationError(message, code="required", params={"owners": some})})
    if not ref:
        raise ValidationError({"owner": _("You may make no keys.")})
    if ref not in mine:
        raise ValidationError({"owner": _("That is no owner of yours.")})
    return ref


def _accepted_owner(ref: str) -> Model:
    """Return the owner as the database knows it now."""
    owner = owners.find(ref)
    if owner is None or not owners.may_have_keys(owner):
        raise ValidationError({"owner": ValidationError(_("This owner may have no keys."), code="no_keys")})
    return owner


def _once(given: Iterable[str]) -> list[str]:
    """Return each once: a key with one scope a thousand times is read at each request."""
    return list(dict.fromkeys(given))


def _read(expires_at: datetime) -> datetime:
    """Return the moment as the project keeps moments: one without a zone is local time."""
    try:
        expires_at = moments.kept(expires_at)
        moments.instant(expires_at)
    except OverflowError:  # in another time zone
        message = _("That moment is beyond the calendar.")
        raise ValidationError({"expires_at": ValidationError(message, code="too_long")}) from None
    return expires_at


def _look_at_scopes(given: Sequence[str], held: Sequence[str] = ()) -> None:
    may_give = offered_scopes()
    if refused := [scope for scope in given if scope not in may_give and not scopes.grants(held, scope)]:
        message = _("“%(scope)s” is not a scope that you may give.")
        raise ValidationError({"scopes": ValidationError(message, code="beyond", params={"scope": refused[0]})})


def _look_at_new_scopes(row: APIKey, given: Sequence[str]) -> None:
    _look_at_scopes(given, row.scopes)
    if beyond(row.scopes) and (more := scopes.first_missing(row.scopes, given)) is not None:
        message = _("An administrator gave this key its scopes: it can lose some, and not get “%(scope)s”.")
        raise ValidationError({"scopes": ValidationError(message, code="beyond", params={"scope": more})})


def _look_at_networks(given: Sequence[str]) -> None:
    if len(given) > MOST_NETWORKS:
        message = _("A key has at most %(most)d networks.")
        raise ValidationError({"allowed_ips": ValidationError(message, params={"most": MOST_NETWORKS})})


def _look_at_new_networks(row: APIKey, given: Sequence[str]) -> None:
    _look_at_networks(given)
    if beyond(row.scopes) and not _are_within(given, row.allowed_ips):
        message = _("An administrator gave this key its scopes: its networks can only be narrowed.")
        raise ValidationError({"allowed_ips": ValidationError(message, code="beyond")})


def _are_within(given: Sequence[str], held: Any) -> bool:
    """Tell whether the networks hold no address that those of before do not hold. None at all hold every address."""
    if held in ([], ()):
        return True
    try:
        inner, outer = ([networks.parse_network(text) for text in texts] for texts in (given, held))
    except (TypeError, ValueError):
        return False
    merged = [
        network
        for version in (4, 6)
        for network in collapse_addresses(one for one in outer if one.version == version)  # type: ignore[type-var]
    ]
    return bool(inner) and all(
        any(one.version == other.version and one.subnet_of(other) for other in merged)  # type: ignore[arg-type]
        for one in inner
    )


def _look_at_new_end(row: APIKey, expires_at: datetime | None) -> None:
    """Let a life be shortened, and lengthened up to the longest: not that of a key which is to go, or holds more."""
    if not _is_later(expires_at, row.expires_at):
        _look_at_end(expires_at, [])
        return
    fixed = row.replaced_by_id is not None or beyond(row.scopes)
    _look_at_end(expires_at, [latest_end(row.created_at), row.expires_at if fixed else None])


def _look_at_end(expires_at: datetime | None, ends: Iterable[datetime | None]) -> None:
    end = min((end for end in ends if end is not None), key=moments.instant, default=None)
    if end is not None and _is_later(expires_at, end):
        message = _("The key ends at %(end)s at the latest.")
        raise ValidationError(
            {"expires_at": ValidationError(message, code="too_long", params={"end": moments.exactly(end)})}
        )
    if expires_at is not None and not _is_later(expires_at, timezone.now()):
        raise ValidationError({"expires_at": ValidationError(_("That moment is in the past."), code="past")})


def _is_later(moment: datetime | None, other: datetime | None) -> bool:
    """Tell whether the moment, or None for never, is later than the other."""
    if moment is None or other is None:
        return other is not None
    return moments.instant(moment) > moments.instant(other)


def _look_at_number(ref: str, most: int) -> None:
    """Refuse one more accepted key than `most`."""
    if number_of(APIKey.objects.of_owner(ref).accepted()) >= most:
        message = _("%(most)d keys are the most that can be in use. Deactivate one first.")
        raise ValidationError(ValidationError(message, code="most_keys", params={"most": self_service()["MOST_KEYS"]}))
