"""The door that a proxy asks before it lets a request through to a service that knows nothing of keys."""

import json
import logging
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from .. import scopes
from ..keyrings import Holder
from .asked import asked_about, is_path_captured
from .doors import KeyView

logger = logging.getLogger("api_keys")

_told: set[str] = set()


class ForwardAuthView(KeyView):
    """Answers the question of a proxy: nginx `auth_request`, Traefik `forwardAuth`, Caddy `forward_auth`, Envoy
    `ext_authz` over HTTP.

    `path("gateway/", ForwardAuthView.as_view())`. The proxy's configuration asks for scopes by `?scope=orders:read`
    (repeatable), the project by `as_view(scopes=["orders:read"])`, and all of them are required. 200 names the key in
    `X-Key-Name` (percent-encoded), `X-Key-Prefix`, `X-Key-Scopes` (separated by blanks) and `X-Key-Owner`
    (percent-encoded). A refusal is 400, 401, 403, 429 or 503, and has its body in `X-Key-Refusal` too, for a proxy
    that cannot hand the body on.

    The row names the request that the proxy asks about, as `X-Forwarded-Method` and `-Uri`, or `X-Original-Method`
    and `-URI` say, if `KEYS["TRUSTED_PROXIES"]` is set. For a proxy that appends the path to the address (Envoy), use
    `path("gateway/<path:path>", ...)`; the query is then the client's, and names no scopes.
    """

    subject = asked_about

    def answer(self, request: HttpRequest, holder: Holder) -> HttpResponseBase:
        response = HttpResponse(content_type="text/plain")
        response["X-Key-Name"] = quote(holder.name, safe="")
        response["X-Key-Prefix"] = quote(holder.prefix, safe="")
        response["X-Key-Scopes"] = " ".join(_texts(holder.scopes))
        response["X-Key-Owner"] = quote(getattr(holder, "owner_ref", ""), safe=":")
        return response

    def refuse(self, request: HttpRequest, status: int, detail: str) -> HttpResponseBase:
        response = super().refuse(request, status, detail)
        response["X-Key-Refusal"] = json.dumps({"detail": str(detail)})  # ASCII
        return response

    def scopes_of(self, request: HttpRequest) -> Sequence[str] | None:
        declared = super().scopes_of(request)
        if declared is None or is_path_captured(request):
            return declared
        asked = request.GET.getlist("scope")
        # A mistake in the proxy's configuration must not open what it guards.
        wrong = [name for name in request.GET if name != "scope"]
        wrong += [scope for scope in asked if not scopes.is_well_formed(scope)]
        if wrong:
            _say(f"The query of a proxy's question holds {wrong[0]!r}. Only ?scope=resource:action may be there.")
            return None
        return [*declared, *asked]


def _texts(held: Any) -> list[str]:
    return [scope for scope in held if isinstance(scope, str)] if isinstance(held, list | tuple) else []


def _say(message: str) -> None:
    """Say on the log, once, what is wrong in a proxy's configuration: clients can ask as often as they like."""
    if message not in _told and len(_told) < 100:
        _told.add(message)
        logger.error(message)
