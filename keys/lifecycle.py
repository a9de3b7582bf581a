"""Creates keys, and sends reminders about keys."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.core.exceptions import ValidationError
from django.dispatch import Signal

from . import moments
from .models import APIKey


def create(
    name: str,
    *,
    scopes: Sequence[str] | None = None,
    expires_at: datetime | None = None,
    allowed_ips: Sequence[str] = (),
    rate: str = "",
) -> APIKey:
    """Create a key and return it, with its secret. Without `scopes` it gets `KEYS["DEFAULT_SCOPES"]`.

    Raises ValidationError, also for a name that is empty or too long, or an expiry in the past.
    """
    if expires_at is not None and moments.has_passed(expires_at):
        raise ValidationError({"expires_at": f"{moments.exactly(expires_at)} is in the past."})
    key = APIKey(name=name.strip(), expires_at=expires_at, allowed_ips=list(allowed_ips), rate=rate)
    if scopes is not None:
        key.scopes = list(scopes)
    key.full_clean()
    key.save()
    return key


def remind(signal: Signal, keys: Iterable[APIKey]) -> list[Exception]:
    """Send one of the reminder signals for each key, and return the exceptions of its receivers."""
    answers = [answer for key in keys for _, answer in signal.send_robust(sender=APIKey, key=key)]
    return [answer for answer in answers if isinstance(answer, Exception)]
