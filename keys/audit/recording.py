"""Writes a request's rows into the audit log: the use of a key or its refusal, and the outcome."""

import logging
from collections.abc import Collection, Mapping

from django.db import Error
from django.db.models.signals import post_migrate
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils import timezone

from ..conf import conf
from ..models import AuditEvent
from ..models.audit_event import BLANK, STRANGERS, WIDTHS, Row
from ..networks import Address
from ..redaction import printable, redacted
from .floods import floods
from .log_identity import LogIdentityError
from .outcomes import RowHandle
from .places import migrated_place
from .sinks import backlog, sink

logger = logging.getLogger("api_keys")

_NOTHING: Mapping[str, str] = {}


class AuditUnavailable(Exception):  # noqa: N818  not a programming error
    """The row could not be written, so the action that it records must not happen."""


def describe(
    request: HttpRequest,
    presented: Collection[str],
    address: Address | None,
    told: Mapping[str, str] = _NOTHING,
    known: Mapping[str, str] = _NOTHING,
) -> Row:
    """Return the row of a use without the key: what is known of the request before the decision.

    It holds two headers, the user agent and the request id, and no query string. `told` has other values for some
    columns of text, where a request asks about another one. Presented secrets are masked, but not in what is `known`
    and no client has sent.
    """
    match, meta = request.resolver_match, request.META
    endpoint = (match.view_name or match._func_path) if match is not None else ""
    row = {
        **BLANK,
        "at": timezone.now(),
        "event": AuditEvent.Event.USED.value,
        "address": None if address is None else str(address),
        "endpoint": printable(endpoint)[: WIDTHS["endpoint"]],
    }
    sent = {
        "method": request.method or "",
        "path": request.path,
        "user_agent": meta.get("HTTP_USER_AGENT", ""),
        "request_id": meta.get("HTTP_X_REQUEST_ID", ""),
        **told,
    }
    for name, text in redacted(sent, presented, conf.PREFIX).items():
        row[name] = text[: WIDTHS[name]]
    for name, text in known.items():
        row[name] = printable(text)[: WIDTHS[name]]
    return row


def record_use(row: Row) -> RowHandle | None:
    """Write a use before its view runs, and return its handle; None if `AUDIT_FAIL_OPEN` lets it go unrecorded.

    Raises AuditUnavailable if the row cannot be written.
    """
    try:
        return sink().insert(row)
    except Error as error:
        fail_closed(error)
        return None


def record_refusal(row: Row, address: Address | None, recorded: RowHandle | None = None) -> None:
    """Write a refusal: a row of its own for a known key, a limited number of rows for unknown keys.

    `recorded` is the handle of a use that was written with its look-up: that row becomes the refusal. Raises
    AuditUnavailable if it cannot be written.
    """
    try:
        if recorded is not None:
            sink().add_outcome(recorded, row, may_be_gone=True)
        elif row["key_name"] or row["reason"] not in STRANGERS:
            sink().insert(row)
        else:
            floods.record(row, address, sink())
    except Error as error:
        fail_closed(error)


def fail_closed(error: Error) -> None:
    """Log that a row could not be written. Raises AuditUnavailable unless `AUDIT_FAIL_OPEN` is set."""
    reason = f": {error}" if isinstance(error, LogIdentityError) else ""
    logger.error("The audit log cannot be written: %s%s", type(error).__name__, reason)
    if not conf.AUDIT_FAIL_OPEN:
        raise AuditUnavailable from error


def add_outcome(handle: RowHandle | None, row: Row, may_be_gone: bool) -> None:
    """Add the outcome to a use. `may_be_gone`: its row may have been rolled back since it was written."""
    try:
        if handle is None:
            sink().insert(row)
        else:
            sink().add_outcome(handle, row, may_be_gone)
    except Error:
        # The use itself is recorded; reports show it without an outcome.
        logger.exception("The outcome of a request could not be added to the audit log.")


@receiver(post_migrate)
def forget(*, using: str, **kwargs: object) -> None:
    """Forget what is pending or counted in a place whose tables were created again or flushed: its rows are gone."""
    if (place := migrated_place(using)) is not None:
        floods.forget(place)
        backlog.forget(place)
