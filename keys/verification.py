"""Decides whether a key is accepted, and why not. Nothing else decides it."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import Error
from django.http import HttpRequest
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from . import credentials, scopes
from .actor import is_person
from .audit import announcements, places, recording, sinks, statements
from .audit.outcomes import RowHandle
from .audit.places import Place
from .conf import conf
from .credentials import Credential, Wanted
from .decisions import Decisions, decisions_on, keep_out_of_caches
from .keyrings import DatabaseKeyring, EnvironmentKey, Holder, Keyring, LegacyKey
from .models import APIKey, AuditEvent, owners
from .models.audit_event import described
from .networks import Address, contains

Reason = AuditEvent.Reason

_STATUS_OF_DENIAL: dict[str, int] = {Reason.SCOPE: 403, Reason.RATE: 429}  # usual answers of denials of good keys

UNAVAILABLE_DETAIL = "API keys cannot be checked right now."
CONFLICT_DETAIL = "More than one API key was presented."


@dataclass(frozen=True)
class Guard:
    """What guards a view: the headers with the key, the keyrings that are searched, and the texts of a refusal.

    Equal guards make the same decision of the same key, so it is made once for each request.
    """

    # One name or several; no keyword for none in `Authorization`.
    header: str | Sequence[str] = "X-API-Key"
    keyword: str | Sequence[str] | None = "Api-Key"
    keyrings: tuple[Keyring, ...] = (DatabaseKeyring(),)
    refused_detail: str = "Invalid API key."
    not_configured_detail: str = "API key not configured"
    # A request without a key gets `refused_detail` too, instead of going on to other authenticators.
    answers_missing: bool = False
    # `request.user` is the owner of the key where that is a user. It decides nothing of the key.
    acts_as_owner: bool = field(default=False, compare=False)
    # A key that no keyring knows is left to the authenticators that follow.
    leaves_unknown: bool = False
    # Where the key is read.
    wanted: Wanted = field(init=False, repr=False, compare=False)
    # Why the guard cannot work; empty if it can. `check` says so, and each request is answered with an error.
    mistake: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Look at the types, as long as no request is near: what raises for a header may show its value."""
        # Tuples for lists, so that guards can be compared and kept in sets.
        lists = {name: getattr(self, name) for name in ("header", "keyword", "keyrings")}
        safe: dict[str, Any] = {name: tuple(held) if isinstance(held, list) else held for name, held in lists.items()}
        if mistake := _mistake_of(self):
            safe = {"mistake": mistake, "header": "X-API-Key", "keyword": None, "keyrings": ()}
        for name, value in safe.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "wanted", Wanted(_names_in(self.header), _names_in(self.keyword)))
        for header in self.wanted.headers:
            credentials.expect(header)

    @property
    def is_configured(self) -> bool:
        """Whether one of the keyrings could hold a key at all."""
        return any(ring.is_configured() for ring in self.keyrings)

    @property
    def vary(self) -> tuple[str, ...]:
        """The request headers on which the answer depends."""
        return (*self.wanted.headers, "Authorization") if self.wanted.keywords else self.wanted.headers

    @property
    def challenge(self) -> str:
        """The header `WWW-Authenticate` of each 401 (RFC 9110, 15.5.2)."""
        return ", ".join(f'{keyword} realm="api"' for keyword in self.wanted.keywords or ("Api-Key",))


def _names_in(names: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if names is None else (names,) if isinstance(names, str) else tuple(names)


def _mistake_of(guard: Guard) -> str:
    """Return which value of the guard is of a wrong type, as a sentence; empty if none is."""
    headers: Any = guard.header if isinstance(guard.header, list | tuple) else [guard.header]
    if not headers or not all(map(credentials.is_header, headers)):
        return f"header = {guard.header!r} is not the name of a header, nor a list of names."
    keywords: Any = guard.keyword if isinstance(guard.keyword, list | tuple) else [guard.keyword]
    if not all(keyword is None or credentials.is_header(keyword) for keyword in keywords) or (
        None in keywords and guard.keyword is not None
    ):
        return f"keyword = {guard.keyword!r} is neither a word, nor a list of words, nor None."
    keyrings: Any = guard.keyrings
    if not isinstance(keyrings, list | tuple):
        return f"keyrings (or variables) = {keyrings!r} is neither a tuple nor a list."
    for ring in keyrings:
        has_methods = callable(getattr(ring, "find", None)) and callable(getattr(ring, "is_configured", None))
        if isinstance(ring, type) or not has_methods or not isinstance(getattr(ring, "variable", ""), str):
            return f"{ring!r} among the keyrings is no keyring."
    for name in ("refused_detail", "not_configured_detail"):
        if not isinstance(text := getattr(guard, name), str | Promise):
            return f"{name} = {text!r} is not a text."
    for name in ("answers_missing", "acts_as_owner", "leaves_unknown"):
        if not isinstance(switch := getattr(guard, name), bool):
            return f"{name} = {switch!r} is no switch."
    return ""


@dataclass(slots=True)
class Use:
    """One key presented on one request: the decision, and its row in the audit log."""

    guard: Guard
    address: Address | None
    row: dict[str, Any] = field(default_factory=dict)
    holder: Holder | None = None
    status: int = 200  # 200 if the key is good, else the status of the answer, whose text is `detail`
    detail: str = ""
    recorded: RowHandle | None = None  # the row that records the use; None if there is none yet
    place: Place | None = None  # where the key was looked for, if a view may go to another tenant
    # Decided inside the view's transaction, which may roll the row back; `conclude` runs after it.
    in_transaction: bool = False
    has_adopted: bool = False  # this use, or another one at the same moment, has made the key one of ours
    is_concluded: bool = False
    is_asked_for: bool = False  # by the view, which the middleware only expects to ask
    denial: str = ""  # why a permission or throttle denied this good key, which another half of `A | B` may allow
    denied: str = ""  # why this good key was refused in the end, whatever status the answer has
    started: float = field(default_factory=monotonic)

    @property
    def is_good(self) -> bool:
        return self.status == 200

    @property
    def is_unavailable(self) -> bool:
        return self.detail == UNAVAILABLE_DETAIL

    def make_unavailable(self) -> None:
        """Set the answer for a key store or an audit log that is unavailable."""
        self.status, self.detail, self.is_concluded = 503, UNAVAILABLE_DETAIL, True


def use_of(request: HttpRequest, guard: Guard) -> Use | None:
    """Return the middleware's decision from before the view, or decide now if it made none about this key.

    None means that no key was presented, and that other authenticators may try.
    """
    keep_out_of_caches(request)
    decisions = decisions_on(request)
    use = check(request, guard) if decisions is None else _decided(request, guard, decisions)
    # Denials that follow on this request are about this key.
    request.api_key_use = use  # type: ignore[attr-defined]
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
        if use is not None and use.row and in_transaction and statements.is_in_view_transaction():
            decisions.tell_late(guard, presented)
        decisions.add(guard, presented, use)
    if use is not None:
        use.is_asked_for = True
    return use


def check(request: HttpRequest, guard: Guard, *, in_transaction: bool = False, is_guess: bool = False) -> Use | None:
    """Decide whether this request's key is good, record its use or its refusal, and return the decision.

    None means that no key was presented, and that other authenticators may try. With `in_transaction`, `conclude`
    writes a refusal, because its answer rolls back the open transaction. With `is_guess` it is not certain that the
    view will ask: None then also means that the key is not good, and nothing was recorded. Raises ImproperlyConfigured.
    """
    # Settings and guards of a wrong type are refused here, where an error report can show no header.
    conf.PREFIX  # noqa: B018
    if guard.mistake:
        raise ImproperlyConfigured(f"A view's guard cannot work: {guard.mistake}")
    if credentials.exposed:
        credentials.hide_from_reports(request)
    credential = guard.wanted.read(request.META)
    if credential is None:
        return None if is_guess else _answer_without_key(guard)
    use = Use(guard, credentials.client_address(request.META), in_transaction=in_transaction)
    use.place = statements.changing_place()
    try:
        reason = _decide(use, request, credential, is_guess)
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
    use.row = recording.describe(request, credential.presented, use.address)
    # The one statement that also writes the use may write one that is refused.
    use.holder, objection = _look_up(use, credential.token, not is_guess and sinks.sink().shares_key_database)
    if use.holder is None:
        return Reason.CONFLICT if credential.looks_repeated else Reason.UNKNOWN
    key_id = use.holder.pk if isinstance(use.holder, APIKey) else None
    use.row = {**use.row, **described(use.holder, key_id)}
    return objection


def _look_up(use: Use, token: str, can_record: bool) -> tuple[Holder | None, str]:
    """Return the holder from the guard's keyrings, and why it is refused. A keyring may record the use at once."""
    checked, objection = None, ""
    failure: Error | None = None

    def may_use(holder: Holder) -> bool:
        nonlocal checked, objection, failure
        checked = holder
        try:
            objection = objection_to(holder, use.address)
        except Error as error:
            failure = error
        return not (objection or failure)

    for ring in use.guard.keyrings:
        find_and_record = getattr(ring, "find_and_record", None) if can_record else None
        if find_and_record is None:
            holder = ring.find(token)
        else:
            try:
                holder, use.recorded = find_and_record(token, use.row, may_use)
            except Error:
                # Perhaps only the log is unavailable, which is handled when the row is written.
                holder = ring.find(token)
        if holder is not None and holder is checked and failure is not None:
            raise failure
        if holder is not None:
            # Always apply the rule, whatever the keyring has written.
            objection = objection if holder is checked else objection_to(holder, use.address)
            adopt = getattr(ring, "adopt", None)
            if not objection and adopt is not None and (adopted := adopt(token, holder)) is not holder:
                holder, use.has_adopted = adopted, adopted is not None
                objection = objection_to(adopted, use.address) if adopted is not None else ""
        if holder is not None:
            return holder, objection
    return None, ""


def objection_to(holder: Holder, address: Address | None) -> str:
    """Return why a key that was found is refused from this address now; empty if it is accepted.

    The owner of a key is asked for last, as that takes a query. Raises Error if that cannot be done.
    """
    if objection := getattr(holder, "objection", ""):
        return str(objection)
    networks = getattr(holder, "allowed_ips", ())
    # A value that is not a list has bypassed the validators. It matches no address.
    if networks not in ([], ()) and not contains(networks, address):
        return Reason.ADDRESS
    has_owner = bool(getattr(holder, "owner_ref", ""))  # a holder of the project's own may know of none
    return Reason.OWNER if has_owner and not owners.accept(holder) else ""


def _refuse(use: Use, request: HttpRequest, credential: Credential, reason: str) -> None:
    if not use.guard.is_configured:
        use.status, use.detail = 503, use.guard.not_configured_detail
    elif reason == Reason.CONFLICT:
        use.status, use.detail = 400, CONFLICT_DETAIL
    else:
        use.status, use.detail = 401, use.guard.refused_detail
    use.is_concluded = not use.in_transaction
    row = use.row or recording.describe(request, credential.presented, use.address)
    refused = {"event": AuditEvent.Event.REFUSED.value, "reason": str(reason), "status": use.status}
    use.row = {**row, **refused, "duration_ms": _elapsed(use)}
    if use.is_concluded:
        recording.record_refusal(use.row, use.address, use.recorded)


def uses_of(request: HttpRequest, holder: object) -> list[Use]:
    """Return the use of this key, if it is the one that this request, and not one within it, was asked for last."""
    use: Use | None = getattr(request, "api_key_use", None)
    return [] if use is None or use.holder != holder else [use]


def holder_of(request: Any) -> Holder | None:
    """Return `request.auth` if it is a key, of whichever keyring. The request may also be Django's own."""
    auth: Any = getattr(request, "auth", None)
    is_key = isinstance(auth, APIKey | EnvironmentKey | LegacyKey)
    return auth if is_key or (auth is not None and uses_of(getattr(request, "_request", request), auth)) else None


def is_from_person(request: Any) -> bool:
    """Tell whether a user made the request, of Django or of its REST framework, and no key, not even as its owner."""
    # Nothing else decides what only people may do.
    return is_person(getattr(request, "user", None)) and holder_of(request) is None


def scope_denial(use: Use, required: Iterable[str]) -> str:
    """Return a sentence that names the first scope a good key lacks, and refuse it; empty if it lacks none."""
    missing = scopes.first_missing(use.holder.scopes, required) if use.holder is not None else None
    if missing is None:
        return ""
    use.denied = Reason.SCOPE
    return lacking(missing)


def lacking(scope: str) -> str:
    """Return the sentence for a caller whose key lacks the scope."""
    return _("This API key lacks the scope “%(scope)s”.") % {"scope": scope}


def conclude(use: Use, status: int) -> None:
    """Record how the request ended, once. A use that its scopes or rate refused becomes a refusal."""
    if use.is_concluded:
        return
    use.is_concluded = True
    if not use.is_good:
        with nullcontext() if use.place is None else places.at(use.place):
            recording.record_refusal({**use.row, "status": status}, use.address, use.recorded)
    else:
        denied = use.denied or (use.denial if status == _STATUS_OF_DENIAL.get(use.denial) else "")
        event = AuditEvent.Event.REFUSED if denied else AuditEvent.Event.USED
        outcome = {"event": event.value, "reason": str(denied), "status": status}
        row = {**use.row, **outcome, "duration_ms": _elapsed(use)}
        if use.in_transaction and use.has_adopted and not _is_there(use.holder):
            # The view's transaction has undone the adoption, and a database may give the id to another key.
            row["api_key_id"] = None
        recording.add_outcome(use.recorded, row, may_be_gone=use.in_transaction)
        if denied:
            announcements.send_refusal(use.holder, row)


def _is_there(holder: Any) -> bool:
    try:
        return bool(statements.find([str(holder.key)] * 2) == holder)
    except Error:
        return False


def _elapsed(use: Use) -> int:
    return round((monotonic() - use.started) * 1000)
