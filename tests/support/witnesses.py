"""Views that report which uses are committed, and views in which the worker dies."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response

from keys.authentication import APIKeyAuthentication
from keys.decorators import api_key_required
from keys.models import AuditEvent
from keys.permissions import HasAPIKey
from tests.views import Guarded


def uses_seen_from_outside() -> int:
    """Count the uses that another connection sees: the committed ones."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_count_uses).result()


def _count_uses() -> int:
    try:
        return AuditEvent._base_manager.filter(event="used").count()
    finally:
        connection.close()


class Witness(Guarded):
    def get(self, request: Request, anything: str = "") -> Response:
        return Response({"seen": uses_seen_from_outside(), "in_transaction": connection.in_atomic_block})


@api_key_required()
def witness_plain(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"seen": uses_seen_from_outside(), "in_transaction": connection.in_atomic_block})


@api_view(["GET"])
@authentication_classes([APIKeyAuthentication])
@permission_classes([HasAPIKey])
def witness_function(request: Request) -> Response:
    return Response({"seen": uses_seen_from_outside(), "in_transaction": connection.in_atomic_block})


class WitnessNamedLate(Witness):
    authentication_classes = []

    def get_authenticators(self) -> list[Any]:
        return [APIKeyAuthentication()]


class Killed(Guarded):
    """The worker dies in the view; for servers in their own processes."""

    def get(self, request: Request, anything: str = "") -> Response:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("never reached")


class KilledNamedLate(Killed):
    authentication_classes = []

    def get_authenticators(self) -> list[Any]:
        return [APIKeyAuthentication()]


class KilledByProperty(Killed):
    @property
    def authentication_classes(self) -> Any:  # type: ignore[override]
        return [APIKeyAuthentication]


killed: Any = Killed.as_view()
killed_in_a_partial = partial(killed)


def killed_in_another(request: HttpRequest) -> Any:
    """Call a guarded view, in which the worker dies if the client wants it to."""
    view = killed if "die" in request.GET else Guarded.as_view()
    return view(request)
