"""What others are told of keys as they are used and refused: a line on the log, and a signal.

Nobody has to listen: neither a line that is switched off nor a signal without receivers is put together.
"""

import logging
from collections.abc import Mapping
from typing import Any

from .. import signals
from ..models.audit_event import Holder, Row

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


def tell_use(holder: Holder, row: Row) -> None:
    """Tell that a good key was presented, and recorded in this row; its view is about to run."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("API Key used: %s", row["key_name"], extra=_extra(row))
    if signals.key_used.receivers:
        signals.key_used.send_robust(sender=type(holder), key=holder, row=dict(row))


def tell_refusal(holder: Holder | None, row: Row) -> None:
    """Tell that a key was refused before its view, and for which reason."""
    if logger.isEnabledFor(logging.WARNING):
        logger.warning("Invalid API key attempt from %s", row["address"] or "an unknown address", extra=_extra(row))
    send_refusal(holder, row)


def send_refusal(holder: Holder | None, row: Row) -> None:
    """Send the signal of a refusal, without a line: a good key may be refused too, by its scopes or its rate."""
    if signals.key_refused.receivers:
        signals.key_refused.send_robust(sender=type(holder), key=holder, row=dict(row))


def _extra(row: Mapping[str, Any]) -> dict[str, Any]:
    return {attribute: row[name] for attribute, name in _EXTRA.items()}
