"""Creates keys, ends them with their owner, and sends reminders about keys."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.signals import setting_changed
from django.db import connections, router, transaction
from django.db.models import Model
from django.db.models.signals import post_delete, pre_delete
from django.dispatch import Signal

from . import moments
from .audit.places import lacks_keys
from .models import APIKey, owners


def create(
    name: str,
    *,
    scopes: Sequence[str] | None = None,
    expires_at: datetime | None = None,
    allowed_ips: Sequence[str] = (),
    rate: str = "",
    owner: Model | None = None,
    note: str = "",
) -> APIKey:
    """Create a key and return it, with its secret. Without `scopes` it gets `KEYS["DEFAULT_SCOPES"]`.

    Raises ValidationError, also for a name that is empty or too long, an expiry in the past, or an owner whose keys
    would not be accepted.
    """
    if expires_at is not None and moments.has_passed(expires_at):
        raise ValidationError({"expires_at": f"{moments.exactly(expires_at)} is in the past."})
    key = APIKey(name=name.strip(), expires_at=expires_at, allowed_ips=list(allowed_ips), rate=rate, note=note)
    if owner is not None:
        key.owner = owner
        if not owners.may_have_keys(owner):
            raise ValidationError({"owner_ref": f"{key.owner_ref} is not active, or may have no keys."})
    if scopes is not None:
        key.scopes = list(scopes)
    key.full_clean()
    key.save()
    return key


def remind(signal: Signal, keys: Iterable[APIKey]) -> list[Exception]:
    """Send one of the reminder signals for each key, and return the exceptions of its receivers."""
    answers = [answer for key in keys for _, answer in signal.send_robust(sender=APIKey, key=key)]
    return [answer for answer in answers if isinstance(answer, Exception)]


_watched: list[type[Model]] = []


def watch_owners() -> None:
    """Watch the models that may own keys now, and no others: Django deletes what nobody watches in fewer statements."""
    while _watched:
        model = _watched.pop()
        pre_delete.disconnect(sender=model, dispatch_uid=__name__)
        post_delete.disconnect(sender=model, dispatch_uid=__name__)
    try:
        listed = owners.models().values()
    except ImproperlyConfigured:
        return  # `check` says so, and each request with a key that has an owner
    labels = {owners.label_of(model) for model in listed}
    for model in (one for one in apps.get_models() if owners.label_of(one) in labels):
        pre_delete.connect(_owner_goes, sender=model, dispatch_uid=__name__)
        post_delete.connect(_owner_has_gone, sender=model, dispatch_uid=__name__)
        _watched.append(model)


class _Deletion:
    """The owners that go in one deletion. There may be thousands, and most have no keys: one query tells which do."""

    def __init__(self) -> None:
        self.refs: set[str] = set()
        self.with_keys: set[str] | None = None  # None until it is asked

    def add(self, ref: str) -> None:
        self.refs.add(ref)
        self.with_keys = None

    def may_have_keys(self, ref: str) -> bool:
        if self.with_keys is None:
            active, refs = APIKey.objects.filter(is_active=True), sorted(self.refs)
            batches = (refs[first : first + _BATCH] for first in range(0, len(refs), _BATCH))
            self.with_keys = {
                found for batch in batches for found in active.of_owner(*batch).values_list("owner_ref", flat=True)
            }
        return ref in self.with_keys


_BATCH = 500
_DELETION = "_keys_deletion"  # the attribute of what is deleted


def _owner_goes(sender: type[Model], instance: Model, origin: Any = None, **kwargs: object) -> None:
    """Gather the owners: Django tells of each before it deletes the first. `origin` is what is deleted in the end."""
    if origin is not None:
        vars(origin).setdefault(_DELETION, _Deletion()).add(_ref_of(sender, instance))


def _owner_has_gone(sender: type[Model], instance: Model, using: str, origin: Any = None, **kwargs: object) -> None:
    """Deactivate the keys of an owner who is deleted: in the same transaction, where it is of the same database."""
    ref, deletion = _ref_of(sender, instance), getattr(origin, _DELETION, None)
    home = router.db_for_write(APIKey)
    if lacks_keys(connections[home]):
        return  # a user of all tenants, whose keys are refused in each of them

    def end() -> None:
        # Not a partial, which has no name for Django to say what failed.
        _end_keys_of(ref, deletion)

    if home == using:
        end()
    else:
        # The owner has gone by then, and so the keys are refused in any case.
        transaction.on_commit(end, using=using, robust=True)


def _ref_of(model: type[Model], instance: Model) -> str:
    pk: Any = model._meta.pk
    return f"{owners.label_of(model)}:{pk.to_python(instance.pk)}"


def _end_keys_of(ref: str, deletion: _Deletion | None) -> None:
    if deletion is None or deletion.may_have_keys(ref):
        for key in APIKey.objects.of_owner(ref).filter(is_active=True):
            key.deactivate(f"owner {ref} was deleted")


def _follow_settings(*, setting: str, **kwargs: object) -> None:
    if setting in {"KEYS", "INSTALLED_APPS"}:
        watch_owners()


setting_changed.connect(_follow_settings)
