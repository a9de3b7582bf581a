"""The guarded view that the load asks for, and what makes and ends its keys."""

import os
from time import sleep
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from keys.models import APIKey
from keys.permissions import HasScope
from tests.cluster.nodes import WORKER


def name_the_worker(get_response: Any) -> Any:
    """Middleware that says in each answer which process gave it."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response: HttpResponse = get_response(request)
        response[WORKER] = str(os.getpid())
        return response

    return middleware


class Use(APIView):
    """Works for a moment, in its transaction, so that a kill finds requests in the middle of it."""

    permission_classes = [HasScope("users:read")]

    def get(self, request: Request) -> Response:
        sleep(0.005)
        return Response({"users": User.objects.count()})


def ready(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@csrf_exempt
def make(request: HttpRequest) -> HttpResponse:
    """Make a key and answer with it."""
    key = APIKey.objects.create(
        name=request.POST["name"], scopes=request.POST.getlist("scope"), rate=request.POST.get("rate", "")
    )
    return HttpResponse(key.key)


@csrf_exempt
def end(request: HttpRequest) -> HttpResponse:
    """Deactivate a key; the answer comes after the commit."""
    APIKey.objects.get(key=request.POST["key"]).deactivate()
    return HttpResponse()
