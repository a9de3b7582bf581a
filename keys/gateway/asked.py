"""Which request a proxy asks about. Only the configuration of the proxy keeps out what its clients write.

RFC 9110, 7.6.3 leaves these headers to the proxies: nginx's manual names X-Original-URI, Traefik and Caddy send
X-Forwarded-Method and X-Forwarded-Uri.
"""

import re
from urllib.parse import unquote_to_bytes

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest

from .. import credentials
from ..conf import conf
from ..decorators import say_once
from ..models.audit_event import GATEWAY
from ..verification import Subject

CUSTOMS = ("FORWARDED", "ORIGINAL")
# These hold the query of a client.
NAMES_OF_ADDRESS = tuple(f"X-{custom.title()}-Uri" for custom in CUSTOMS)

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#]*", re.IGNORECASE)
_QUERY = re.compile("[?#]")
_CONTRADICTION = "The headers that name the request contradict each other."
_UNTOLD = (
    "A gateway does not say which request it asks about, so rows name the question. It has to send X-Forwarded-Method "
    "and X-Forwarded-Uri, or X-Original-Method and X-Original-URI."
)


def asked_about(request: HttpRequest) -> Subject:
    """Return the method, the path and the guarded host of the request that a proxy asks about.

    Without `KEYS["TRUSTED_PROXIES"]` nothing that is sent is believed, and the row names the question itself, as it
    does with what is not sent. Headers of two customs that say different things are a contradiction, and so are two
    halves: the proxy has set one, and a client the other.
    """
    if conf.TRUSTED_PROXIES <= 0:
        return Subject({"endpoint": GATEWAY + _host_in(_own_host(request))})
    told = {"endpoint": GATEWAY + _host_in(_forwarded_host(request) or _own_host(request))}
    if is_path_captured(request):
        return Subject({**told, "path": f"/{_captured(request)}"})
    sent = [(_sent(request, custom, "METHOD"), _sent(request, custom, "URI")) for custom in CUSTOMS]
    methods, addresses = ({value for value in values if value} for values in zip(*sent, strict=True))
    # A header that came twice is joined by a comma, which is in no method.
    if len(methods) > 1 or len(addresses) > 1 or not all(map(credentials.is_header, methods)):
        return Subject(told, _CONTRADICTION)
    if any(map(all, sent)):
        return Subject({**told, "method": methods.pop(), "path": _path_in(addresses.pop())})
    if methods and addresses:
        return Subject(told, _CONTRADICTION)
    say_once(_UNTOLD)
    return Subject({**told, "path": _path_in(addresses.pop())} if addresses else told)


def is_path_captured(request: HttpRequest) -> bool:
    """Tell whether the proxy has appended the path to the address of the question, and the client's query with it."""
    return _captured(request) is not None


def _captured(request: HttpRequest) -> object:
    return None if request.resolver_match is None else request.resolver_match.kwargs.get("path")


def _sent(request: HttpRequest, custom: str, name: str) -> str:
    sent: str = request.META.get(f"HTTP_X_{custom}_{name}", "")
    return sent.strip(credentials.BLANKS)


def _path_in(address: str) -> str:
    """Return the path of an address as a client sent it, decoded as Django decodes its own, without the query."""
    origin = _ORIGIN.match(address)
    path = _QUERY.split(address[origin.end() if origin else 0 :], maxsplit=1)[0] or "/"
    # Servers hold the octets of a header as latin-1. Those that are no UTF-8 stay apart from each other.
    return unquote_to_bytes(path.encode("latin-1", "replace")).decode(errors="backslashreplace")


def _forwarded_host(request: HttpRequest) -> str:
    """Return the host that the outermost trusted proxy has seen; empty if none is told."""
    sent: str = request.META.get("HTTP_X_FORWARDED_HOST", "")
    hosts = sent.split(",")
    return hosts[max(len(hosts) - conf.TRUSTED_PROXIES, 0)].strip(credentials.BLANKS)


def _host_in(host: str) -> str:
    """Return the host in its one spelling, so that a client cannot choose among several."""
    name, colon, port = host.lower().partition(":")
    return host.lower() if host.startswith("[") else f"{name.rstrip('.')}{colon}{port}"


def _own_host(request: HttpRequest) -> str:
    try:
        return request.get_host()
    except DisallowedHost:
        return ""
