"""The door that a service asks about a key which was presented to it: OAuth 2.0 Token Introspection (RFC 7662)."""

from typing import Any, ClassVar

from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase

from .. import moments
from ..authentication import ServicePrincipal
from ..keyrings import DatabaseKeyring, Holder, Keyring
from ..models.audit_event import INTROSPECTION
from ..networks import Address, parse_address
from ..verification import UNAVAILABLE_DETAIL, Guard, Subject, check_for_other, conclude
from .doors import KeyView

SCOPE = "keys:introspect"


class IntrospectionView(KeyView):
    """Answers `POST token=...` of a service whose own key holds `keys:introspect` (RFC 7662, 2).

    `{"active": true, "scope", "client_id", "username", "sub", "iat", "exp"}`, or `{"active": false}` and no more. The
    token is looked for in `keyrings`. `address=...` is that of whoever presented the token: without it a key that is
    limited to networks is not active. Both uses are on record; the caller is the actor of the other's. Raises nothing.
    """

    scopes = (SCOPE,)
    keyrings: ClassVar[tuple[Keyring, ...]] = (DatabaseKeyring(),)

    def answer(self, request: HttpRequest, holder: Holder) -> HttpResponseBase:
        request.sensitive_post_parameters = "__ALL__"  # type: ignore[attr-defined]  # for error reports
        if request.method != "POST":
            response: HttpResponseBase = _error(405, "POST the token.")
            response["Allow"] = "POST"
            return response
        tokens, addresses = request.POST.getlist("token"), request.POST.getlist("address")
        if len(tokens) != 1 or len(addresses) > 1:
            return _error(400, "Send one token, as application/x-www-form-urlencoded.")
        address = parse_address(addresses[0]) if addresses else None
        if addresses and address is None:
            return _error(400, "address is no address.")
        return self._introspected(request, holder, tokens[0], address)

    def _introspected(
        self, request: HttpRequest, caller: Holder, token: str, address: Address | None
    ) -> HttpResponseBase:
        actor = ServicePrincipal(caller).actor_name
        guard = Guard(self.guard.header, self.guard.keyword, self.keyrings)
        use = check_for_other(
            request, guard, token, address, Subject({"actor": actor, "endpoint": INTROSPECTION + caller.name})
        )
        if use.is_unavailable:
            return self.refuse(request, 503, UNAVAILABLE_DETAIL)
        conclude(use, use.status)
        if use.holder is None or not use.is_good:
            return JsonResponse({"active": False})
        return JsonResponse(_described(use.holder))


def _described(holder: Holder) -> dict[str, Any]:
    found = {
        "active": True,
        "scope": " ".join(holder.scopes),
        "client_id": holder.prefix,
        "username": holder.name,
        "sub": getattr(holder, "owner_ref", "") or ServicePrincipal(holder).pk,
    }
    times = {"iat": getattr(holder, "created_at", None), "exp": getattr(holder, "expires_at", None)}
    return found | {name: int(moments.instant(at).timestamp()) for name, at in times.items() if at is not None}


def _error(status: int, description: str) -> JsonResponse:
    """Return an error as RFC 6749, 5.2 has it."""
    return JsonResponse({"error": "invalid_request", "error_description": description}, status=status)
