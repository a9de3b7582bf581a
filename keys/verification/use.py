"""One key presented on one request, and what the rest of the package asks about it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _

from .. import scopes
from ..actor import is_person
from ..audit.outcomes import RowHandle
from ..audit.places import Place
from ..keyrings import EnvironmentKey, Holder, LegacyKey
from ..models import APIKey, AuditEvent
from ..networks import Address
from .guard import Guard, Subject

Reason = AuditEvent.Reason

UNAVAILABLE_DETAIL = "API keys cannot be checked right now."


@dataclass(slots=True)
class Use:
    """One key presented on one request: the decision, and its row in the audit log."""

    guard: Guard
    address: Address | None
    row: dict[str, Any] = field(default_factory=dict)
    holder: Holder | None = None
    status: int = 200  # 200 if the key is good, else the status of the answer, whose text is `detail`
    detail: str = ""
    subject: Subject | None = None  # the request that is asked about, if it is another one
    recorded: RowHandle | None = None  # the row that records the use; None if there is none yet
    place: Place | None = None  # where the key was looked for, if a view may go to another tenant
    # Decided inside the view's transaction, which may roll the row back; `conclude` runs after it.
    in_transaction: bool = False
    has_adopted: bool = False  # this use, or another one at the same moment, has made the key one of ours
    is_concluded: bool = False
    is_asked_for: bool = False  # by the view, which the middleware only expects to ask
    is_left: bool = False  # no keyring knows the key, and other authenticators may accept it
    answer: int = 0  # the status with which a key that was left is refused, as nobody accepted it; 0 if it is not
    denial: str = ""  # why a permission or throttle denied this good key, which another half of `A | B` may allow
    denied: str = ""  # why this good key was refused in the end, whatever status the answer has
    started: float = field(default_factory=monotonic)

    @property
    def is_good(self) -> bool:
        return self.status == 200

    @property
    def is_unavailable(self) -> bool:
        return self.detail == UNAVAILABLE_DETAIL

    @property
    def is_unfinished(self) -> bool:
        """Whether its row, or the outcome of its row, is still to be written."""
        return not self.is_concluded and (not self.is_left or self.answer != 0)

    @property
    def duration_ms(self) -> int:
        """The milliseconds since the request came."""
        return round((monotonic() - self.started) * 1000)

    def make_unavailable(self) -> None:
        """Set the answer for a key store or an audit log that is unavailable."""
        self.status, self.detail, self.is_concluded = 503, UNAVAILABLE_DETAIL, True


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
