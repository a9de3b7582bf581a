"""Doors of several kinds, and questions to them as servers ask them: what comes back is what is sent."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any
from urllib.parse import unquote

from asgiref.sync import async_to_sync
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.urls import include, path, re_path
from rest_framework.throttling import BaseThrottle

from keys.gateway import ForwardAuthView
from keys.keyrings import DatabaseKeyring, EnvironmentKeyring
from keys.verification import Guard
from tests.keyrings.old_tokens import OldTokens

PROXY = "192.0.2.1"
NAMED = ("X-Key-Name", "X-Key-Prefix", "X-Key-Scopes", "X-Key-Owner")


def watched(view: Callable[..., Any]) -> Callable[..., Any]:
    """Be a decorator of a project's."""

    @wraps(view)
    def watching(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        response = view(request, *args, **kwargs)
        response["X-Watched"] = "yes"
        return response

    return watching


def hiding(view: Callable[..., Any]) -> Callable[..., Any]:
    """Be a decorator that hides what it is around."""
    return lambda request, *args, **kwargs: view(request, *args, **kwargs)


class NeverMore(BaseThrottle):
    """A throttle of a project's, which counts by itself and knows no moment."""

    def allow_request(self, request: Any, view: Any) -> bool:
        return False


class OrdersDoor(ForwardAuthView):
    scopes = "orders:read"


several_places = Guard(header=("X-Service", "X-API-Key"), keyword=("Basic", "Token"))
of_variable = Guard(keyrings=(DatabaseKeyring(), EnvironmentKeyring("GATEWAY_KEY", scopes=("orders:read",))))
leaving = Guard(keyrings=(DatabaseKeyring(), OldTokens()), leaves_unknown=True)

inner = ([path("door/", ForwardAuthView.as_view(), name="door")], "inner")

urlpatterns = [
    path("door/", ForwardAuthView.as_view(), name="door"),
    path("orders-door/", OrdersDoor.as_view()),
    path("both-doors/", ForwardAuthView.as_view(scopes=["orders:read", "orders:write"])),
    path("watched/", transaction.non_atomic_requests(watched(ForwardAuthView.as_view()))),
    path("hidden/", hiding(ForwardAuthView.as_view())),
    path("places/", ForwardAuthView.as_view(guard=several_places)),
    path("throttled/", ForwardAuthView.as_view(throttle_classes=[NeverMore])),
    path("variable/", ForwardAuthView.as_view(guard=of_variable)),
    path("owner/", ForwardAuthView.as_view(guard=Guard(acts_as_owner=True))),
    path("leaving/", ForwardAuthView.as_view(guard=leaving)),
    path("within/", include(inner)),
    re_path(r"^captured/(?P<path>(?s:.*))\Z", ForwardAuthView.as_view(scopes=["orders:read"])),
    path("wrong/none/", ForwardAuthView.as_view(scopes=None)),
    path("wrong/empty/", ForwardAuthView.as_view(scopes="")),
    path("wrong/number/", ForwardAuthView.as_view(scopes=7)),
    path("wrong/inside/", ForwardAuthView.as_view(scopes=["orders:read", None])),
]


@dataclass(frozen=True)
class Answer:
    """What a server would send."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def __getitem__(self, name: str) -> str:
        values = self.all(name)
        assert len(values) == 1, (name, values)
        return values[0]

    def all(self, name: str) -> list[str]:
        return [value for header, value in self.headers if header.lower() == name.lower()]


class Unread:
    """A body that must not be read."""

    def read(self, *args: Any) -> bytes:
        raise AssertionError("the body was read")

    readline = read


def ask(address: str, method: str = "GET", body: Any = None, **headers: str) -> Answer:
    """Ask as a WSGI server does. Names of headers have `_` for `-`; a peer at `PROXY` asks."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    environ: Any = RequestFactory().generic(method, address, headers=sent, REMOTE_ADDR=PROXY).environ
    if body is not None:
        environ["wsgi.input"], environ["CONTENT_LENGTH"] = body, "10000000"
    started: list[Any] = []
    handler: Any = WSGIHandler()
    parts = handler(environ, lambda status, headers, exc=None: started.append((status, headers)))
    content = b"".join(parts)
    parts.close()
    status, said = started[0]
    return Answer(int(status[:3]), tuple(said), content)


def ask_asgi(address: str, method: str = "GET", body: Any = None, **headers: str) -> Answer:
    """Ask as an ASGI server does."""
    target, _, query = address.partition("?")
    pairs = [(name.replace("_", "-").lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": unquote(target), "query_string": query.encode(), "headers": [(b"host", b"testserver"), *pairs],
        "client": (PROXY, 1), "server": ("testserver", 80),
    }  # fmt: skip
    messages: list[dict[str, Any]] = []

    async def answered() -> None:
        is_told = False

        async def receive() -> dict[str, Any]:
            nonlocal is_told
            if is_told:
                await asyncio.Event().wait()
            is_told = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            messages.append(message)

        handler: Any = ASGIHandler()
        await handler(scope, receive, send)

    async_to_sync(answered)()
    said = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in messages[0]["headers"])
    return Answer(messages[0]["status"], said, b"".join(message.get("body", b"") for message in messages))


def envelope(request: HttpRequest, status: int, detail: str) -> HttpResponse:
    """Answer a refusal as if nothing had happened, and keep the caller in mind."""
    response = HttpResponse(f"refused: {detail}", status=200, headers={"Location": "/login/", "Set-Cookie": "a=b"})
    response.set_cookie("visitor", "1")
    return response


def broken(request: HttpRequest, status: int, detail: str) -> HttpResponse:
    raise RuntimeError("the project's function")
