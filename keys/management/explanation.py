"""Explains in one sentence why a key is refused, or what it may do. Writes nothing to the audit log."""

from collections.abc import Sequence
from dataclasses import dataclass

from .. import tokens
from ..audit.reports import ago
from ..endpoints import endpoints, environment_keyrings
from ..keyrings import DatabaseKeyring, EnvironmentKeyring, Holder, Keyring, KeyStoreError, LegacyKey, LegacyKeyring
from ..keyrings.legacy import has_come
from ..models import APIKey, AuditEvent
from ..models.audit_event import AuditEventQuerySet
from ..models.key_origin import origins_of
from ..models.owners import OwnerUnknownError
from ..moments import exactly
from ..networks import Address
from ..redaction import printable
from ..scopes import first_missing
from ..verification import Reason, objection_to
from .ownership import standing

LOOKED_AT = 100  # changes of a key
_NO_VIEW = "no view here, where services only ask about it"


@dataclass(frozen=True)
class Explanation:
    """Whether a key is accepted, and a sentence with the reason."""

    accepted: bool
    sentence: str


def explain(token: str, *, address: Address | None = None, scopes: Sequence[str] = ()) -> Explanation:
    """Explain what would happen to a request with this key, from that address, to a view that requires those scopes.

    Without an address, the key's allowed networks are not checked; the sentence names them.
    """
    if not tokens.is_presentable(token):
        return Explanation(False, "Refused: this cannot be a key, which is 1 to 128 printable ASCII characters.")
    if (key := DatabaseKeyring().find(token)) is not None:
        refusal = _refusal(key, address, scopes)
        sentence = f"Refused: {_label(key)} {refusal}." if refusal else f"Accepted: {_label(key)} {_powers(key)}."
        origins = " and ".join(printable(str(one)) for one in origins_of([key.pk]).get(key.pk, ()))
        return Explanation(not refusal, f"{sentence} It came from {origins}." if origins else sentence)
    return _of_keyrings(token, address, scopes) or _from_the_environment(token, scopes)


def _label(key: APIKey) -> str:
    return printable(str(key))


def _refusal(key: APIKey, address: Address | None, scopes: Sequence[str]) -> str:
    """Return why the key is refused, to follow its name in a sentence; empty if it is accepted."""
    try:
        objection = objection_to(key, address)
    except OwnerUnknownError:  # as is said of the owner
        objection = Reason.OWNER
    match objection:
        case Reason.INACTIVE:
            event = _steps(key).filter(event=AuditEvent.Event.DEACTIVATED).first()
            if event is None:
                return "is inactive"
            why = f": {event.detail}" if event.detail else ""
            return f"was deactivated {_when_and_by_whom(event)}{why}"
        case Reason.EXPIRED if key.expires_at is not None:
            successor = f"; {_label(key.replaced_by)} has replaced it" if key.replaced_by is not None else ""
            return f"expired {ago(key.expires_at)}, on {exactly(key.expires_at)}{successor}"
        case Reason.ADDRESS if address is not None:
            return f"may not be used from {address}, only from {', '.join(key.allowed_ips)}"
        case Reason.OWNER:
            return f"belongs to {standing(key.owner_ref).refusal}"
        case other if other not in ("", Reason.ADDRESS):
            return f"is refused: {Reason(other).label}"
    if (missing := first_missing(key.scopes, scopes)) is not None:
        held = f"it holds {', '.join(key.scopes)}" if key.scopes else "it holds none"
        return f"lacks the scope {missing}; {held}{_since_when(key, missing)}"
    return ""


def _steps(key: APIKey) -> AuditEventQuerySet:
    steps: AuditEventQuerySet = AuditEvent.objects.written().latest_of("api_key_id", key.pk).steps()
    return steps


def _when_and_by_whom(event: AuditEvent) -> str:
    return f"{ago(event.at)} ({event.actor})" if event.actor else ago(event.at)


def _since_when(key: APIKey, scope: str) -> str:
    """Return when the key lost the scope, to follow what it holds; empty if the log does not say so."""
    for event in _steps(key).filter(event=AuditEvent.Event.CHANGED)[:LOOKED_AT]:
        match event.changes:
            case {"scopes": [[*before], _]} if first_missing([str(one) for one in before], [scope]) is None:
                return f", and held it until {_when_and_by_whom(event)}"
    return ""


def _powers(key: APIKey) -> str:
    """Return what an accepted key may do, to follow its name in a sentence."""
    parts = [f"holds the scopes {', '.join(key.scopes)}" if key.scopes else "holds no scopes"]
    parts += [f"belongs to {standing(key.owner_ref)}"] if key.owner_ref else []
    parts += [f"only from {', '.join(key.allowed_ips)}"] if key.allowed_ips else []
    parts += [f"at most {key.rate}"] if key.rate else []
    parts += [f"until {exactly(key.expires_at)} ({ago(key.expires_at)})"] if key.expires_at is not None else []
    parts += [f"and has been replaced by {_label(key.replaced_by)}"] if key.replaced_by is not None else []
    return ", ".join(parts)


def _of_keyrings(token: str, address: Address | None, scopes: Sequence[str]) -> Explanation | None:
    """Explain a key of another system, or of a keyring of the project's own, without adopting it; None if none has it.

    Raises KeyStoreError if one cannot be asked.
    """
    asked: list[Keyring] = []
    found = endpoints()
    opened = [(endpoint.address, ring) for endpoint in found for ring in endpoint.keyrings]
    for ring in [ring for endpoint in found for ring in endpoint.searched_keyrings]:
        if ring in asked or isinstance(ring, DatabaseKeyring | EnvironmentKeyring):
            continue
        asked.append(ring)
        holder, name = _find(ring, token), f"{type(ring).__module__}.{type(ring).__qualname__}"
        if holder is None:
            continue
        label = f"{printable(holder.name)} of {name}"
        if isinstance(holder, LegacyKey) and has_come(holder):
            gone = f"{label} has become a key here, which was deleted or has another secret"
            return Explanation(False, f"Refused: {gone}. It does not come back.")
        if refusal := _refusal_elsewhere(holder, address, scopes):
            return Explanation(False, f"Refused: {label} {refusal}.")
        routes = ", ".join(dict.fromkeys(route for route, other in opened if other == ring)) or _NO_VIEW
        becomes = isinstance(ring, LegacyKeyring) and ring.adopts and bool(ring.origin)
        end = ", and becomes a key here at its next use" if becomes else ""
        return Explanation(True, f"Accepted: {label} {_held(holder)}, opens {routes}{end}.")
    return None


def _find(ring: Keyring, token: str) -> Holder | None:
    if isinstance(ring, LegacyKeyring):
        return ring.record_of(token)
    try:
        return ring.find(token)
    except Exception as error:
        # Without the text of a keyring of the project's own, which may hold the key.
        sentence = f"{type(ring).__module__}.{type(ring).__qualname__} cannot be asked: {type(error).__name__}."
        raise KeyStoreError(sentence) from None


def _refusal_elsewhere(holder: Holder, address: Address | None, scopes: Sequence[str]) -> str:
    """Return why a key that is none of ours is refused, to follow its name in a sentence; empty if it is accepted."""
    try:
        objection = objection_to(holder, address)
    except OwnerUnknownError:
        objection = Reason.OWNER
    if objection == Reason.OWNER:
        return f"belongs to {standing(holder.owner_ref).refusal}"
    if objection and not (objection == Reason.ADDRESS and address is None):
        return f"is refused: {Reason(objection).label if objection in Reason.values else printable(objection)}"
    missing = first_missing(holder.scopes, scopes)
    return "" if missing is None else f"lacks the scope {missing}; it {_held(holder)}"


def _held(holder: Holder) -> str:
    return f"holds the scopes {', '.join(holder.scopes)}" if holder.scopes else "holds no scopes"


def _from_the_environment(token: str, scopes: Sequence[str]) -> Explanation:
    rings = environment_keyrings()
    matching = [(endpoint, ring) for endpoint, ring in rings if ring.find(token) is not None]
    if not matching:
        variables = ", ".join(dict.fromkeys(ring.variable for _, ring in rings))
        elsewhere = f", nor is it the value of {variables}" if variables else ""
        return Explanation(False, f"Refused: no key in the database matches{elsewhere}.")
    variables = " and ".join(dict.fromkeys(ring.variable for _, ring in matching))
    able = [(endpoint, ring) for endpoint, ring in matching if first_missing(ring.scopes, scopes) is None]
    if not able:
        return Explanation(False, f"Refused: the value of {variables} lacks the scope {', '.join(scopes)}.")
    routes = dict.fromkeys(endpoint.address for endpoint, ring in able if ring in endpoint.keyrings) or [_NO_VIEW]
    return Explanation(True, f"Accepted: it is the value of {variables} and opens {', '.join(routes)}.")
