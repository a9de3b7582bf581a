"""Which request a proxy asks about. Only the configuration of the proxy keeps out what its clients write.

RFC 9110, 7.6.3 leaves these headers to the proxies: nginx's manual names X-Original-URI, Traefik and Caddy send
X-Forwarded-Method and X-Forwarded-Uri.
"""

import re
from urllib.parse import unquote_to_bytes

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest

from ..conf import conf
from ..models.audit_event import GATEWAY
from ..verification import Subject

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#]*", re.IGNORECASE)
_CONTRADICTION = "The headers that name the request contradict each other."


def asked_about(request: HttpRequest) -> Subject:
    """Return the method, the path and the guarded host of the request that a proxy asks about.

    Without `KEYS["TRUSTED_PROXIES"]` nothing that is sent is believed, and the row names the question itself. With it,
    two headers that contradict each other are a contradiction: the proxy has set one, and a client the other.
    """
    if conf.TRUSTED_PROXIES <= 0:
        return Subject({"endpoint": GATEWAY + _own_host(request)})
    told = {"endpoint": GATEWAY + (_forwarded_host(request) or _own_host(request))}
    if is_path_captured(request):
        return Subject({**told, "path": f"/{_captured(request)}"})
    methods, addresses = _sent(request, "METHOD"), _sent(request, "URI")
    if len(methods) > 1 or len(addresses) > 1:
        return Subject(told, _CONTRADICTION)
    if methods:
        told["method"] = methods.pop()
    if addresses:
        told["path"] = _path_in(addresses.pop())
    return Subject(told)


def is_path_captured(request: HttpRequest) -> bool:
    """Tell whether the proxy has appended the path to the address of the question, and the client's query with it."""
    return _captured(request) is not None


def _captured(request: HttpRequest) -> object:
    return None if request.resolver_match is None else request.resolver_match.kwargs.get("path")


def _sent(request: HttpRequest, name: str) -> set[str]:
    """Return what is sent under this name, by whichever custom of proxies."""
    sent = (request.META.get(f"HTTP_X_{custom}_{name}", "") for custom in ("FORWARDED", "ORIGINAL"))
    return {value for value in sent if value}


def _path_in(address: str) -> str:
    """Return the path of an address as a client sent it, decoded as Django decodes its own, without the query."""
    path = re.split("[?#]", _ORIGIN.sub("", address, count=1), maxsplit=1)[0]
    # Servers hold the octets of a header as latin-1.
    return unquote_to_bytes(path.encode("latin-1", "replace")).decode(errors="replace")


def _forwarded_host(request: HttpRequest) -> str:
    """Return the host that the outermost trusted proxy has seen; empty if none is told."""
    sent: str = request.META.get("HTTP_X_FORWARDED_HOST", "")
    hosts = [host.strip() for host in sent.split(",")]
    return hosts[max(len(hosts) - conf.TRUSTED_PROXIES, 0)]


def _own_host(request: HttpRequest) -> str:
    try:
        return request.get_host()
    except DisallowedHost:
        return ""
