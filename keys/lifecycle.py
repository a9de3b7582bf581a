"""Creates keys, ends them with their owner, and sends reminders about keys."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.signals import setting_changed
from django.db import router, transaction
from django.db.models import Model
from django.db.models.signals import post_delete
from django.dispatch import Signal

from . import moments
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
        post_delete.disconnect(sender=_watched.pop(), dispatch_uid=__name__)
    try:
        listed = owners.models().values()
    except ImproperlyConfigured:
        return  # `check` says so, and each request with a key that has an owner
    labels = {owners.label_of(model) for model in listed}
    for model in (one for one in apps.get_models() if owners.label_of(one) in labels):
        post_delete.connect(_end_keys_of, sender=model, dispatch_uid=__name__)
        _watched.append(model)


def _end_keys_of(sender: type[Model], instance: Model, using: str, **kwargs: object) -> None:
    """Deactivate the keys of an owner who is deleted: in the same transaction, where it is of the same database."""
    ref = f"{owners.label_of(sender)}:{instance.pk}"
    if router.db_for_write(APIKey) == using:
        _deactivate_keys_of(ref)
    else:
        transaction.on_commit(partial(_deactivate_keys_of, ref), using=using)


def _deactivate_keys_of(ref: str) -> None:
    for key in APIKey.objects.of_owner(ref).filter(is_active=True):
        key.deactivate(f"owner {ref} was deleted")


def _follow_settings(*, setting: str, **kwargs: object) -> None:
    if setting in {"KEYS", "INSTALLED_APPS"}:
        watch_owners()


setting_changed.connect(_follow_settings)
