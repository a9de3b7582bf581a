"""Decides whether the key of a request is accepted, and writes down what was decided."""

from contextlib import nullcontext

from django.core.exceptions import ImproperlyConfigured
from django.db import Error
from django.http import HttpRequest

from .. import credentials
from ..audit import announcements, recording, sinks, statements
from ..conf import conf
from ..credentials import Credential
from ..models import APIKey, AuditEvent
from ..models.audit_event import Row, described
from ..networks import Address
from ..tokens import Secret
from .decisions import Decisions, decisions_on, keep_out_of_caches
from .finding import is_of_stranger, look_up
from .guard import Guard, Subject
from .use import Reason, Use

CONFLICT_DETAIL = "More than one API key was presented."


def use_of(request: HttpRequest, guard: Guard) -> Use | None:
    """Return the middleware's decision from before the view, or decide now if it made none about this key.

    None means that no key was presented, and that other authenticators may try. So they may if the use `is_left`; who
    knows that none of them accepts the request, says so by `refuse_left`.
    """
    keep_out_of_caches(request)
    decisions = decisions_on(request)
    use = check(request, guard) if decisions is None else _decided(request, guard, decisions)
    # Denials that follow on this request are about this key.
    request.api_key_use = None if use is not None and use.is_left else use  # type: ignore[attr-defined]
    return use


def _decided(request: HttpRequest, guard: Guard, decisions: Decisions) -> Use | None:
    if id(request) != decisions.request_id:
        decisions.keep_out_of_caches()
    presented = guard.wanted.presented(request.META)
    is_decided, use = decisions.find(guard, presented)
    if not is_decided:
        in_transaction = decisions.is_open and statements.is_in_transaction()
        with statements.despite_rollback() if in_transaction else nullcontext():
            use = check(request, guard, in_transaction=in_transaction)
        is_late = use is not None and bool(use.row) and not use.is_left and in_transaction
        if is_late and statements.is_in_view_transaction():
            decisions.tell_late(guard, presented)
        decisions.add(guard, presented, use)
    if use is not None:
        use.is_asked_for = True
    return use


def check(
    request: HttpRequest, guard: Guard, *, in_transaction: bool = False, is_guess: bool = False, leaves: bool = False
) -> Use | None:
    """Decide whether this request's key is good, record its use or its refusal, and return the decision.

    None means that no key was presented, and that other authenticators may try. With `in_transaction`, `conclude`
    writes a refusal, because its answer rolls back the open transaction. With `is_guess` it is not certain that the
    view will ask: None then also means that the key is not good, and nothing was recorded. With `leaves`, or where the
    guard says so, nothing is recorded of a key that no keyring knows, and the use `is_left`. Raises
    ImproperlyConfigured.
    """
    # Settings and guards of a wrong type are refused here, where an error report can show no header.
    conf.PREFIX  # noqa: B018
    if guard.mistake:
        credentials.drop_form(request)
        raise ImproperlyConfigured(f"A view's guard cannot work: {guard.mistake}")
    if credentials.exposed:
        credentials.hide_from_reports(request)
    credential = guard.wanted.read(request.META)
    if credential is None:
        return None if is_guess else _answer_without_key(guard)
    use = Use(guard, credentials.client_address(request.META), in_transaction=in_transaction)
    use.subject = None if guard.subject is None else guard.subject(request)
    return _decide_and_record(use, request, credential, is_guess, leaves or guard.leaves_unknown)


def check_for_other(
    request: HttpRequest, guard: Guard, token: Secret, address: Address | None, subject: Subject
) -> Use:
    """Decide about a key that somebody else has presented to the caller, who asks about it.

    The guard says in which keyrings it is. `address` is that of whoever presented it, if known. `conclude` has to
    follow. Raises ImproperlyConfigured.
    """
    if guard.mistake:
        raise ImproperlyConfigured(f"No key can be looked for: {guard.mistake}")
    credential = Credential((token,), (token,), False)
    use = Use(guard, address, subject=subject, in_transaction=statements.is_in_view_transaction())
    _decide_and_record(use, request, credential)
    return use


def _decide_and_record(
    use: Use, request: HttpRequest, credential: Credential, is_guess: bool = False, leaves: bool = False
) -> Use | None:
    """Decide, and write down what was decided, unless it is a guess about a key that is not good."""
    in_transaction = use.in_transaction
    use.place = statements.changing_place()
    try:
        reason = _decide(use, request, credential, is_guess)
        if reason and leaves and is_of_stranger(use, credential):
            _leave(use, request, credential, reason)
            return use
        if reason and is_guess:
            return None
        if reason:
            _refuse(use, request, credential, reason)
        elif use.recorded is None:
            use.recorded = recording.record_use(use.row)
    except recording.AuditUnavailable:
        use.make_unavailable()
    except Error as error:
        recording.logger.error("The key store cannot be reached: %s", type(error).__name__)
        use.make_unavailable()
        if use.recorded is not None:
            # The look-up wrote the use, and its owner could not be asked for.
            recording.add_outcome(use.recorded, {**use.row, "status": use.status}, may_be_gone=in_transaction)
    if is_guess and use.is_unavailable:
        return None
    if use.is_good and use.holder is not None:
        announcements.tell_use(use.holder, use.row)
    elif not use.is_unavailable:
        announcements.tell_refusal(use.holder, use.row)
    return use


def _answer_without_key(guard: Guard) -> Use | None:
    """Return the refusal of a request that presents no key; None if other authenticators may try."""
    if guard.leaves_unknown:
        return None
    if not guard.is_configured:
        return Use(guard, None, status=503, detail=guard.not_configured_detail, is_concluded=True)
    refusal = Use(guard, None, status=401, detail=guard.refused_detail, is_concluded=True)
    return refusal if guard.answers_missing else None


def _decide(use: Use, request: HttpRequest, credential: Credential, is_guess: bool) -> str:
    """Find the holder of the key, and return why it is refused; empty if it is accepted."""
    if credential.in_conflict:
        return Reason.CONFLICT
    if not credential.may_be_a_key:
        return Reason.CONFLICT if credential.looks_repeated else Reason.MALFORMED
    # Built before the look-up, because a keyring may write it in the same statement.
    use.row = _describe(use, request, credential)
    in_contradiction = use.subject is not None and bool(use.subject.contradiction)
    can_record = not (is_guess or in_contradiction) and sinks.sink().shares_key_database
    # The one statement that also writes the use may write one that is refused.
    use.holder, objection = look_up(use, credential.token, can_record)
    if use.holder is None:
        return Reason.CONFLICT if credential.looks_repeated else Reason.UNKNOWN
    key_id = use.holder.pk if isinstance(use.holder, APIKey) else None
    use.row = {**use.row, **described(use.holder, key_id)}
    return objection or (Reason.CONFLICT if in_contradiction else "")


def _leave(use: Use, request: HttpRequest, credential: Credential, reason: str) -> None:
    """Leave the key to other authenticators, with its row ready for the case that none of them accepts it."""
    use.is_left = True
    use.status, use.detail = 401, use.guard.refused_detail
    _describe_refusal(use, request, credential, reason)


def _refuse(use: Use, request: HttpRequest, credential: Credential, reason: str) -> None:
    if not use.guard.is_configured:
        use.status, use.detail = 503, use.guard.not_configured_detail
    elif reason == Reason.CONFLICT:
        contradiction = use.subject.contradiction if use.subject is not None else ""
        use.status, use.detail = 400, contradiction or CONFLICT_DETAIL
    else:
        use.status, use.detail = 401, use.guard.refused_detail
    use.is_concluded = not use.in_transaction
    _describe_refusal(use, request, credential, reason)
    if use.is_concluded:
        recording.record_refusal(use.row, use.address, use.recorded)


def _describe_refusal(use: Use, request: HttpRequest, credential: Credential, reason: str) -> None:
    row = use.row or _describe(use, request, credential)
    refused = {"event": AuditEvent.Event.REFUSED.value, "reason": str(reason), "status": use.status}
    use.row = {**row, **refused, "duration_ms": use.duration_ms}


def _describe(use: Use, request: HttpRequest, credential: Credential) -> Row:
    subject = use.subject
    if subject is None:
        return recording.describe(request, credential.secrets, use.address)
    secrets = (*credential.secrets, *subject.secrets)
    return recording.describe(request, secrets, use.address, subject.texts, subject.known)
