"""Records how a request ended that presented a key."""

from contextlib import nullcontext
from typing import Any

from django.db import Error
from django.http import HttpRequest

from ..audit import announcements, places, recording, statements
from ..models import AuditEvent
from .decisions import decisions_on
from .use import Reason, Use

_STATUS_OF_DENIAL: dict[str, int] = {Reason.SCOPE: 403, Reason.RATE: 429}  # usual answers of denials of good keys


def conclude(use: Use, status: int) -> None:
    """Record how the request ended, once. A use that its scopes or rate refused becomes a refusal."""
    if use.is_concluded:
        return
    use.is_concluded = True
    if not use.is_good:
        row = {**use.row, "status": status}
        with nullcontext() if use.place is None else places.at(use.place):
            recording.record_refusal(row, use.address, use.recorded)
        if use.is_left:
            announcements.tell_refusal(None, row)
    else:
        denied = use.denied or (use.denial if status == _STATUS_OF_DENIAL.get(use.denial) else "")
        event = AuditEvent.Event.REFUSED if denied else AuditEvent.Event.USED
        outcome = {"event": event.value, "reason": str(denied), "status": status}
        row = {**use.row, **outcome, "duration_ms": use.duration_ms}
        if use.in_transaction and use.has_adopted and not _is_there(use.holder):
            # The view's transaction has undone the adoption, and a database may give the id to another key.
            row["api_key_id"] = None
        recording.add_outcome(use.recorded, row, may_be_gone=use.in_transaction)
        if denied:
            announcements.send_refusal(use.holder, row)


def _is_there(holder: Any) -> bool:
    """Tell whether the key is in its table; also not if nobody can say."""
    digest = str(holder.key)
    try:
        return bool(statements.find([digest, digest]) == holder)
    except Error:
        return False


def refuse_left(request: HttpRequest, use: Use, status: int = 401) -> None:
    """Refuse a key that was left, as nobody accepted the request, which is answered with this status.

    The middleware writes the row after the view. Where it does not, the row is written here, and the use is made
    unavailable if that fails.
    """
    use.answer = status
    decisions = decisions_on(request)
    if decisions is None or decisions.is_concluded:
        try:
            conclude(use, status)
        except recording.AuditUnavailable:
            use.make_unavailable()
