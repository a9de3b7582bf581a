"""What users may do with keys of their own. The API and the pages translate; nothing else decides it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import connections, router, transaction
from django.db.models import Model
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from .. import lifecycle, moments, scopes
from ..actor import is_person as is_person
from ..conf import conf, self_service
from ..models import APIKey, owners
from ..models.querysets import APIKeyQuerySet


class NotRotatableError(ValidationError):
    """A key that has a successor gets no other one."""


def owners_of(user: Any) -> list[Model]:
    """Return the owners for which the user may act. Raises ImproperlyConfigured if there can be none."""
    if not owners.are_on():
        raise ImproperlyConfigured('Users look after their own keys only where KEYS["OWNERS"] names who may own keys.')
    if not is_person(user):
        return []
    path = self_service()["OWNERS_OF"]
    return list(import_string(path)(user)) if path else [user]


def keys_of(user: Any) -> APIKeyQuerySet[Any]:
    """Return the keys that the user may look after, in whatever state."""
    refs = [owners.ref_of(owner) for owner in owners_of(user)]
    return APIKey.objects.of_owner(*refs)


def offered() -> dict[str, str]:
    """Return the scopes that users may give, each with its sentence for people."""
    given = self_service()["SCOPES"]
    named: Sequence[str] = conf.DEFAULT_SCOPES if given is None else given
    return {scope: str(conf.SCOPES.get(scope, "")) for scope in named if scope != scopes.EVERYTHING}


def latest_end(created_at: datetime | None = None) -> datetime | None:
    """Return when a key that was made then, or is made now, ends at the latest; None if it need not."""
    longest: timedelta | None = self_service()["LONGEST_LIFE"]
    return None if longest is None else moments.after(created_at or timezone.now(), longest)


def create(
    user: Any,
    *,
    name: str,
    owner: Model | None = None,
    scopes: Sequence[str] | None = None,
    expires_at: datetime | None = None,
    allowed_ips: Sequence[str] = (),
) -> APIKey:
    """Make a key for one of the user's owners, and return it with its secret.

    Without `owner` it is the user's only one. Without `scopes` it gets those of `KEYS["DEFAULT_SCOPES"]` that users may
    give. Without `expires_at` it ends at the latest moment. Raises ValidationError by field.
    """
    owner = _owner_among(owners_of(user), owner)
    given = [scope for scope in conf.DEFAULT_SCOPES if scope in offered()] if scopes is None else list(scopes)
    _look_at_scopes(given)
    end = latest_end()
    if expires_at is not None:
        _look_at_end(expires_at, end)
    with locked(owner):
        _look_at_number(owner, 1, self_service()["MOST_KEYS"])
        return lifecycle.create(
            name, owner=owner, scopes=given, expires_at=expires_at or end, allowed_ips=list(allowed_ips)
        )


def change(key: APIKey, **values: Any) -> APIKey:
    """Change `name`, `scopes`, `allowed_ips` and `expires_at` of a key that is accepted, and save it.

    Raises ValidationError by field, StaleKeyError if others changed the same meanwhile.
    """
    if key.objection:
        raise ValidationError(_("This key is %(state)s, and cannot be changed.") % {"state": key.state})
    if {"scopes", "allowed_ips", "expires_at"} & values.keys():
        _look_at_scopes(values.get("scopes", key.scopes))
    if "expires_at" in values:
        ends = [latest_end(key.created_at), key.expires_at if key.replaced_by_id else None]
        _look_at_end(values["expires_at"], min((end for end in ends if end), key=moments.instant, default=None))
    for name in values.keys() & {"name", "scopes", "allowed_ips", "expires_at"}:
        setattr(key, name, values[name])
    key.full_clean()
    key.save()
    return key


def rotate(key: APIKey, grace: timedelta | None = None) -> APIKey:
    """Make the successor, and return it with its secret.

    Raises NotRotatableError if there is one already, RotationError for a key that is not accepted, ValidationError.
    """
    grace = conf.ROTATION_GRACE if grace is None else grace
    longest = self_service()["LONGEST_LIFE"]
    if grace < timedelta(0) or (longest is not None and grace > longest):
        raise ValidationError({"grace": _("The grace is between 0 and the longest life of a key.")})
    _look_at_scopes(key.scopes)
    owner = owners.of(key)
    if owner is None:
        raise ValidationError(_("This key has no owner any more."))
    with locked(owner):
        key.refresh_from_db()
        if key.replaced_by_id is not None:
            raise NotRotatableError(_("This key has been rotated already."))
        _look_at_number(owner, 1 if grace else 0, self_service()["MOST_KEYS"] + 1)
        successor = key.rotate(grace)
        end = latest_end(successor.created_at)
        if end is not None and (successor.expires_at is None or moments.instant(successor.expires_at) > end):
            successor.expires_at = end
            successor.save()
    return successor


def deactivate(key: APIKey, reason: str = "") -> None:
    """Refuse the key from the next request on."""
    key.deactivate(reason)


@contextmanager
def locked(owner: Model) -> Iterator[None]:
    """Let no other process make keys of this owner inside the block, so that their number can be counted."""
    model = owners.model_for(owner.__class__)
    rows: Any = APIKey if model is None else model
    of_owners, of_keys = router.db_for_write(rows), router.db_for_write(APIKey)
    with transaction.atomic(using=of_owners), transaction.atomic(using=of_keys):
        if connections[of_keys].vendor == "sqlite":
            # It locks no rows, but lets one writer in at a time.
            APIKey._base_manager.using(of_keys).none()
        rows._base_manager.using(of_owners).select_for_update(no_key=True).filter(pk=owner.pk).first()
        yield


def _owner_among(mine: list[Model], owner: Model | None) -> Model:
    if owner is None and len(mine) == 1:
        owner = mine[0]
    if owner is None:
        raise ValidationError({"owner": _("Say whose key it is.")})
    if owner not in mine:
        raise ValidationError({"owner": _("That is no owner of yours.")})
    return owner


def _look_at_scopes(given: Sequence[str]) -> None:
    if beyond := [scope for scope in given if scope not in offered()]:
        message = _("“%(scope)s” is not a scope that you may give.")
        raise ValidationError({"scopes": ValidationError(message, code="beyond", params={"scope": beyond[0]})})


def _look_at_end(expires_at: datetime | None, end: datetime | None) -> None:
    if end is not None and (expires_at is None or moments.instant(expires_at) > moments.instant(end)):
        message = _("The key ends at %(end)s at the latest.")
        raise ValidationError(
            {"expires_at": ValidationError(message, code="too_long", params={"end": moments.exactly(end)})}
        )


def _look_at_number(owner: Model, more: int, most: int) -> None:
    if APIKey.objects.owned_by(owner).accepted().count() + more > most:
        message = _("There are %(most)d keys already, which is the most. Deactivate one first.")
        raise ValidationError(ValidationError(message, code="most_keys", params={"most": self_service()["MOST_KEYS"]}))
