"""The audit log: the only module that decides what is written into it."""

import logging
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.db import Error, router
from django.db.models.signals import post_delete
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils import timezone

from . import actor, statements, tokens
from .conf import conf
from .floods import floods
from .keyrings import Holder
from .models import APIKey, AuditEvent
from .networks import Address
from .signals import key_changed
from .sinks import sink
from .sql import BLANK, EVENT_FIELDS
from .statements import Row

logger = logging.getLogger("api_keys")

MASK = "********"
# Nobody sends a header more often by mistake; each part costs a search, and a client may send thousands.
MOST_PARTS = 8
_WIDTH = {field.attname: field.max_length for field in EVENT_FIELDS if field.max_length}
# What `record_pruning` writes.
_PRUNED = re.compile(r"(?:deleting )?(uses and refusals|events) before (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC")


class Pruning(NamedTuple):
    """The uses and refusals from before this time were taken out of the log; with `life_cycle` all events were."""

    before: datetime
    life_cycle: bool


class AuditUnavailable(Exception):  # noqa: N818  a state of affairs, and nobody's mistake
    """The row could not be written, so what it was to record must not happen."""


def printable(text: str) -> str:
    """Return the text with control and format characters escaped (OWASP ASVS 5.0, 16.4.1)."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def describe(request: HttpRequest, presented: Iterable[str], address: Address | None) -> dict[str, Any]:
    """Return the row of a use, but for the key: what is known of the request before anybody decides.

    Of the headers only the user agent and the request id are kept; the presented secret is masked
    wherever the client may have put it, and a query string is never looked at.
    """
    match, meta = request.resolver_match, request.META
    endpoint = (match.view_name or match._func_path) if match is not None else ""
    row = {
        **BLANK,
        "at": timezone.now(),
        "event": AuditEvent.Event.USED.value,
        "address": None if address is None else str(address),
        "endpoint": printable(endpoint)[: _WIDTH["endpoint"]],
    }
    secrets = _secrets(presented)
    sent = {
        "method": request.method or "",
        "path": request.path,
        "user_agent": meta.get("HTTP_USER_AGENT", ""),
        "request_id": meta.get("HTTP_X_REQUEST_ID", ""),
    }
    for name, text in sent.items():
        for secret in secrets:
            text = text.replace(secret, MASK)
        row[name] = printable(text)[: _WIDTH[name]]
    return row


def _secrets(presented: Iterable[str]) -> list[str]:
    """Return what must not show, the longest first: every token, and the parts of a header that was sent twice."""
    parts = {part for token in presented for part in re.split(r"[,\s]+", token, maxsplit=MOST_PARTS)}
    whole = {*presented, *(part for part in parts if len(part) >= tokens.PREFIX_LENGTH)}
    # Without its prefix, which is no secret, a token is masked in both forms.
    return sorted({tokens.bare(token, conf.PREFIX) for token in whole if token}, key=len, reverse=True)


def with_holder(row: Row, holder: Holder) -> dict[str, Any]:
    """Return the row with the key it is about."""
    name = printable(holder.name)[: _WIDTH["key_name"]]
    key_id = holder.pk if isinstance(holder, APIKey) else None
    return {**row, "api_key_id": key_id, "key_name": name, "key_prefix": holder.prefix}


def record_use(row: Row) -> int | None:
    """Write a use before its view runs and return its id; None where `AUDIT_FAIL_OPEN` lets it go unrecorded.

    Raises AuditUnavailable when the row cannot be written.
    """
    try:
        return sink().insert(row)
    except Error as error:
        lost(error)
        return None


def record_refusal(row: Row, address: Address | None) -> None:
    """Write a refusal: a row of its own for a known key, a bounded number of rows for strangers.

    Raises AuditUnavailable when it cannot be written.
    """
    try:
        if row["key_name"]:
            sink().insert(row)
        else:
            floods.record(row, address)
    except Error as error:
        lost(error)


def lost(error: Error) -> None:
    """Say on the log that a row could not be written, and stop the request unless `AUDIT_FAIL_OPEN`."""
    logger.error("The audit log cannot be written: %s", type(error).__name__)
    if not conf.AUDIT_FAIL_OPEN:
        raise AuditUnavailable from error


def add_outcome(event_id: int | None, row: Row, may_be_gone: bool) -> None:
    """Add the outcome to a use, whose row may have been rolled back since it was written."""
    try:
        if event_id is None:
            sink().insert(row)
        else:
            sink().add_outcome(event_id, row, may_be_gone)
    except Error:
        # The use itself is on the record; reports show it as one without an outcome.
        logger.exception("The outcome of a request could not be added to the audit log.")


@receiver(key_changed, sender=APIKey)
def record_change(*, key: APIKey, event: str, detail: str, **kwargs: object) -> None:
    """Write one step of a key's life, in the transaction that makes it."""
    record_step(event, detail, key)


@receiver(post_delete, sender=APIKey)
def record_deletion(*, instance: APIKey, **kwargs: object) -> None:
    """Write that a key was deleted; its other rows stay."""
    record_step(AuditEvent.Event.DELETED, "", instance)


def record_pruning(before: datetime, life_cycle: bool, count: int | None = None) -> None:
    """Write that the uses and refusals from before that whole second, with `life_cycle` all events, are deleted.

    Once before it is done, so that no row is ever gone without a word of it, and once with their number.
    """
    what = ("deleting " if count is None else "") + ("events" if life_cycle else "uses and refusals")
    until = f"{before.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    record_step(AuditEvent.Event.PRUNED, f"{what} before {until}", count=count or 0)


def prunings() -> list[Pruning]:
    """Return what the log says of events that were taken out of it."""
    events = AuditEvent.objects.using(router.db_for_write(AuditEvent)).filter(event=AuditEvent.Event.PRUNED)
    found = []
    for match in map(_PRUNED.fullmatch, map(str, events.values_list("detail", flat=True))):
        with suppress(ValueError):
            if match is not None:
                found.append(Pruning(datetime.fromisoformat(f"{match[2]}+00:00"), match[1] == "events"))
    return found


def record_step(event: str, detail: str, key: APIKey | None = None, count: int = 1) -> None:
    """Write a step of one key's life, or of the log's own, with who did it: into the database, with the step."""
    row = {**BLANK, "at": timezone.now(), "event": str(event), "detail": printable(detail)[: _WIDTH["detail"]]}
    row |= {"actor": printable(actor.current())[: _WIDTH["actor"]], "count": count}
    statements.insert(row if key is None else with_holder(row, key))
