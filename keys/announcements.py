"""What others are told of keys as they are used, refused and changed: a line on the log, and a signal.

Nobody has to listen: neither a line that is switched off nor a signal without receivers is put together.
"""

import logging
from collections.abc import Mapping
from copy import copy
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models.signals import post_delete
from django.dispatch import receiver

from . import actor, signals
from .keyrings import Holder
from .models import APIKey, AuditEvent

logger = logging.getLogger("api_keys")

# What a line carries beside its words. The prefix keeps clear of attributes that a project's own logging sets on
# every record, such as `request_id`: Python raises an error where two want the same one.
_EXTRA = {
    "api_key_name": "key_name",
    "api_key_prefix": "key_prefix",
    "api_key_reason": "reason",
    "api_key_address": "address",
    "api_key_method": "method",
    "api_key_endpoint": "endpoint",
    "api_key_request_id": "request_id",
}


def used(holder: Holder, row: Mapping[str, Any]) -> None:
    """Tell that a good key was presented, and recorded in this row; its view is about to run."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("API Key used: %s", row["key_name"], extra=_extra(row))
    if signals.key_used.receivers:
        signals.key_used.send_robust(sender=type(holder), key=holder, row=dict(row))


def refused(holder: Holder | None, row: Mapping[str, Any]) -> None:
    """Tell that a key was refused before its view, and for which reason."""
    if logger.isEnabledFor(logging.WARNING):
        logger.warning("Invalid API key attempt from %s", row["address"] or "an unknown address", extra=_extra(row))
    limited(holder, row)


def limited(holder: Holder | None, row: Mapping[str, Any]) -> None:
    """Tell that a key was refused; a good one too, by its scopes or its rate."""
    if signals.key_refused.receivers:
        signals.key_refused.send_robust(sender=type(holder), key=holder, row=dict(row))


def _extra(row: Mapping[str, Any]) -> dict[str, Any]:
    return {attribute: row[name] for attribute, name in _EXTRA.items()}


@receiver(signals.key_changed, sender=APIKey)
def changed(*, key: APIKey, event: str, detail: str, **kwargs: object) -> None:
    """Tell of a step in a key's life, once it is committed."""
    if signals.key_life_cycle.receivers:
        # The copy leaves out the secret, which the instance that made the key still knows.
        tell = partial(
            signals.key_life_cycle.send_robust,
            sender=APIKey, key=copy(key), event=str(event), detail=detail, actor=actor.current(),
        )  # fmt: skip
        transaction.on_commit(tell, using=key._state.db, robust=True)


@receiver(post_delete, sender=APIKey)
def deleted(*, instance: APIKey, **kwargs: object) -> None:
    """Tell that a key was deleted, once that is committed."""
    changed(key=instance, event=AuditEvent.Event.DELETED, detail="")
