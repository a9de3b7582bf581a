"""Reports uses and refusals as log lines and signals, built only if the level is enabled or there is a receiver."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from .. import signals
from ..models import owners
from ..models.audit_event import Holder, Row

logger = logging.getLogger("api_keys")

# The extra attributes of a log line, prefixed: Python raises an error if a project's own logging sets the same ones.
_EXTRA = {
    "api_key_name": "key_name",
    "api_key_prefix": "key_prefix",
    "api_key_reason": "reason",
    "api_key_address": "address",
    "api_key_method": "method",
    "api_key_endpoint": "endpoint",
    "api_key_request_id": "request_id",
}


def tell_use(holder: Holder, row: Row) -> None:
    """Report that a good key was presented and recorded in this row. Called just before its view runs."""
    if logger.isEnabledFor(logging.INFO):
        _log(logging.INFO, "API Key used: %s", row["key_name"], row)
    if signals.key_used.receivers:
        signals.key_used.send_robust(sender=type(holder), key=holder, row=dict(row))


def tell_refusal(holder: Holder | None, row: Row) -> None:
    """Report that a key was refused before its view, and for which reason."""
    if logger.isEnabledFor(logging.WARNING):
        _log(logging.WARNING, "Invalid API key attempt from %s", row["address"] or "an unknown address", row)
    send_refusal(holder, row)


def send_refusal(holder: Holder | None, row: Row) -> None:
    """Send the signal of a refusal without a log line: scopes or a rate may refuse a good key too."""
    if signals.key_refused.receivers:
        signals.key_refused.send_robust(sender=type(holder), key=holder, row=dict(row))


def _log(level: int, text: str, argument: str, row: Row) -> None:
    # A handler that raises decides nothing: the row is in the audit log.
    with suppress(Exception):
        logger.log(level, text, argument, extra=_extra(row))


def _extra(row: Mapping[str, Any]) -> dict[str, Any]:
    extra = {attribute: row[name] for attribute, name in _EXTRA.items()}
    # On each line, for a format that names it, or on none.
    return extra | {"api_key_owner": row["owner"]} if owners.are_on() else extra
