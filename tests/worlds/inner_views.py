"""Views whose guards are hard to foresee, and views that call others."""

import copy
import json
import os
import signal
from functools import partial
from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import RequestFactory
from django.views.decorators.csrf import csrf_exempt
from rest_framework.request import Request
from rest_framework.response import Response

from keys.authentication import APIKeyAuthentication
from keys.decorators import api_key_required
from tests.worlds.views import Orders


class Mortal(Orders):
    """The worker dies in it if the client wants it to."""

    def get(self, request: Request) -> Response:
        if "die" in request.query_params:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().get(request)


class ByProperty(Mortal):
    @property
    def authentication_classes(self) -> Any:  # type: ignore[override]
        return [APIKeyAuthentication]


class SetsUp(Mortal):
    """What `setup()` makes decides."""

    calls = 0

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        SetsUp.calls += 1
        self.guards = [APIKeyAuthentication()]

    def get_authenticators(self) -> list[Any]:
        return self.guards


mortal: Any = Mortal.as_view()
in_a_partial = partial(mortal)


def calls_another(request: HttpRequest) -> Any:
    return mortal(request)


def sends_a_request(request: HttpRequest) -> Any:
    inner = RequestFactory(headers={"X-API-Key": request.GET["key"]}).get("/orders/")
    return Orders.as_view()(inner)


@csrf_exempt
@api_key_required()
def batch(request: HttpRequest) -> HttpResponse:
    """Call a view with each of the keys, on copies of its request."""
    statuses = []
    for key in json.loads(request.body):
        part = copy.copy(request)
        part.method, part.META = "GET", {**request.META, "HTTP_X_API_KEY": key}
        with transaction.atomic():
            statuses.append(Orders.as_view()(part).status_code)
    return JsonResponse(statuses, safe=False)
