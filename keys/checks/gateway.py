"""Checks of the views that proxies and services ask: that they ask for scopes, and know about which request."""

import re
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core import checks

from ..conf import configured
from ..endpoints import Endpoint, endpoints
from ..gateway import ForwardAuthView
from ..gateway.doors import KeyView, declared_scopes
from .views import once_for_each_view

_CAPTURED = re.compile(r"(\(\?P)?<(\w+:)?path>")


@checks.register("keys")
def check_scopes_of_gateway(**kwargs: object) -> list[checks.CheckMessage]:
    return once_for_each_view(
        checks.Error(
            f"The view opens to nobody: scopes = {scopes!r} is neither a scope nor a list of scopes.",
            hint='Write as_view(scopes=["orders:read"]), or scopes=[] if the view itself is to ask for none.',
            obj=endpoint,
            id="keys.E042",
        )
        for endpoint in views_of(KeyView)
        if declared_scopes(scopes := scopes_of(endpoint)) is None
    )


@checks.register("keys")
def check_captured_paths_ask_for_scopes(**kwargs: object) -> list[checks.CheckMessage]:
    return once_for_each_view(
        checks.Warning(
            "A key without any scope gets past this gateway: where the address captures the path, the query is the "
            "client's and names no scopes.",
            hint='Write as_view(scopes=["orders:read"]). If every key may pass, say so by scopes=[].',
            obj=endpoint,
            id="keys.W015",
        )
        for endpoint in views_of(ForwardAuthView)
        if _CAPTURED.search(endpoint.route) and scopes_of(endpoint) == ()
    )


@checks.register("keys")
def check_captured_paths_have_their_prefix(**kwargs: object) -> list[checks.CheckMessage]:
    doors = list(views_of(ForwardAuthView))
    captured = [(each, found.start()) for each in doors if (found := _CAPTURED.search(each.address))]
    plain = {each.address.rstrip("$"): each for each in doors if not _CAPTURED.search(each.address)}
    return [
        checks.Error(
            f"A proxy that appends the path asks another gateway about its root: {plain[prefix]} reads the scopes from "
            "the query, which is the client's then.",
            hint="Give them addresses of which neither begins as the other does, such as /gateway/ and /envoy/.",
            obj=each,
            id="keys.E043",
        )
        for each, start in captured
        if (prefix := each.address[:start]) in plain
    ]


@checks.register("keys", deploy=True)
def check_gateway_knows_its_proxy(**kwargs: object) -> list[checks.CheckMessage]:
    if configured()["TRUSTED_PROXIES"] != 0:
        return []  # E006 looks at the type
    return once_for_each_view(
        checks.Warning(
            'A proxy is to ask this view, and KEYS["TRUSTED_PROXIES"] is 0: the log names neither the method nor the '
            "path that it asks about, and each client has the address of the proxy.",
            hint="Set it to the number of proxies in front of this service, that one among them.",
            obj=endpoint,
            id="keys.W043",
        )
        for endpoint in views_of(ForwardAuthView)
    )


@checks.register("keys", deploy=True)
def check_gateway_does_not_redirect(**kwargs: object) -> list[checks.CheckMessage]:
    if not settings.SECURE_SSL_REDIRECT or settings.SECURE_PROXY_SSL_HEADER:
        return []
    if "django.middleware.security.SecurityMiddleware" not in settings.MIDDLEWARE:
        return []
    return once_for_each_view(
        checks.Warning(
            "SECURE_SSL_REDIRECT answers each question without TLS with a redirect, so that the proxy lets nobody "
            "through.",
            hint="Set SECURE_PROXY_SSL_HEADER and let the proxy send that header, or name the address in "
            "SECURE_REDIRECT_EXEMPT. Silence this check if the proxy asks by https.",
            obj=endpoint,
            id="keys.W044",
        )
        for endpoint in views_of(ForwardAuthView)
        # As SecurityMiddleware matches it.
        if not any(re.search(pattern, endpoint.address.lstrip("/")) for pattern in settings.SECURE_REDIRECT_EXEMPT)
    )


def views_of(kind: type[KeyView]) -> Iterator[Endpoint]:
    """Yield the endpoints whose view is of this class, or of one below it."""
    return (each for each in endpoints() if each.is_of(kind))


def scopes_of(endpoint: Endpoint) -> Any:
    """Return the value that the view has for its scopes, of any type."""
    return getattr(endpoint.view, "initkwargs", {}).get("scopes", endpoint.source.scopes)
