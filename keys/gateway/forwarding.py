"""The door that a proxy asks before it lets a request through to a service that knows nothing of keys."""

import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase

from .. import credentials, scopes
from ..conf import conf, is_scope
from ..decorators import say_once
from ..keyrings import Holder
from .asked import NAMES_OF_ADDRESS, asked_about, is_path_captured
from .doors import KeyView


class ForwardAuthView(KeyView):
    """Answers the question of a proxy: nginx `auth_request`, Traefik `forwardAuth`, Caddy `forward_auth`, Envoy
    `ext_authz` over HTTP.

    `path("gateway/", ForwardAuthView.as_view())`. The proxy's configuration asks for scopes by `?scope=orders:read`
    (repeatable), the project by `as_view(scopes=["orders:read"])`, and all of them are required. 200 names the key in
    `X-Key-Name` (percent-encoded), `X-Key-Prefix`, `X-Key-Scopes` (separated by blanks) and `X-Key-Owner`
    (percent-encoded). A refusal is 400, 401, 403, 429 or 503, and has its body in `X-Key-Refusal` too, for a proxy
    that cannot hand the body on.

    The row names the request that the proxy asks about, as `X-Forwarded-Method` and `-Uri`, or `X-Original-Method`
    and `-URI` say, if `KEYS["TRUSTED_PROXIES"]` is set. Where they contradict each other, the question is refused. For
    a proxy that appends the path to the address (Envoy), use `re_path(r"^gateway/(?P<path>(?s:.*))\\Z", ...)`; the
    query is then the client's, and names no scopes.
    """

    subject = asked_about

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        for header in NAMES_OF_ADDRESS:
            credentials.expect(header)
        return super().as_view(**initkwargs)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        _forget_query_of_client(request)
        return super().dispatch(request, *args, **kwargs)

    def answer(self, request: HttpRequest, holder: Holder) -> HttpResponseBase:
        response = HttpResponse(content_type="text/plain")
        response["X-Key-Name"] = quote(holder.name, safe="", errors="replace")
        response["X-Key-Prefix"] = quote(holder.prefix, safe="", errors="replace")
        response["X-Key-Scopes"] = " ".join(_scopes_in(holder.scopes))
        response["X-Key-Owner"] = quote(getattr(holder, "owner_ref", ""), safe=":", errors="replace")
        return response

    @classmethod
    def finish(cls, request: HttpRequest, response: HttpResponseBase, status: int, detail: str) -> None:
        super().finish(request, response, status, detail)
        _forget_query_of_client(request)
        response["X-Key-Refusal"] = json.dumps({"detail": detail})  # ASCII

    def scopes_of(self, request: HttpRequest) -> Sequence[str] | None:
        declared = super().scopes_of(request)
        if declared is None or is_path_captured(request):
            return declared
        asked = _scopes_asked_for(request)
        return None if asked is None else [*declared, *asked]


def _scopes_asked_for(request: HttpRequest) -> list[str] | None:
    """Return the scopes in the query; None if it is not as a proxy's configuration writes it.

    A mistake in that configuration must not open what it guards.
    """
    try:
        query = request.GET
    except SuspiciousOperation:  # too many fields
        query = QueryDict("scope")
    asked = query.getlist("scope")
    # Without the text: where the proxy hands on what a client sent, it may hold secrets.
    if {*query} - {"scope"} or not all(map(is_scope, asked)):
        say_once(
            "The query of a proxy's question holds something else than ?scope=resource:action: no key is let through."
        )
        return None
    if unknown := scopes.unknown(asked, conf.SCOPES):
        say_once(
            f'A proxy asks for the scope {unknown[0][:100]!r}, which is not registered in KEYS["SCOPES"]: '
            "no key is let through."
        )
        return None
    return asked


def _scopes_in(held: Any) -> list[str]:
    """Return what a service can understand of a key's scopes, which raw SQL may have written."""
    return [scope for scope in held if is_scope(scope)] if isinstance(held, list | tuple) else []


def _forget_query_of_client(request: HttpRequest) -> None:
    """Keep the query of a client out of the error reports of this request."""
    if is_path_captured(request):
        request.META["QUERY_STRING"] = ""
        request.GET = QueryDict()
