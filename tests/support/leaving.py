"""Guards that leave keys to others, who follows them, and both ways to call a view."""

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.http import HttpRequest, JsonResponse
from django.test import AsyncClient, Client
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException, AuthenticationFailed
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import exception_handler

from keys.authentication import EnvironmentKeyAuthentication, KeyringAuthentication
from keys.keyrings import DatabaseKeyring, KeyStoreError
from keys.models import APIKey
from keys.verification import Guard
from tests.support.callers import UNKNOWN
from tests.support.two_systems import Both

REFUSED = {"detail": "Invalid API key."}
STRANGER = [("refused", "unknown", "", 401)]
INTERNAL = "a-key-from-the-environment-of-32-characters"
LEAVES = Guard(leaves_unknown=True)

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Counted(DatabaseKeyring):
    """Counts how often a token is looked up."""

    looked_up: list[str] = []

    def find(self, token: str) -> APIKey | None:
        self.looked_up.append(token)
        return super().find(token)


class Away(DatabaseKeyring):
    def find(self, token: str) -> APIKey | None:
        raise KeyStoreError("It cannot be reached.")


class OursCounted(KeyringAuthentication):
    keyrings = (Counted(),)
    leaves_unknown = True


class OursAway(KeyringAuthentication):
    keyrings = (Away(),)
    leaves_unknown = True


class InX(KeyringAuthentication):
    header = "X-Other-Key"
    keyrings = (DatabaseKeyring(),)
    leaves_unknown = True


class OfEnvironment(EnvironmentKeyAuthentication):
    variables = ("TEST_LEAVING",)
    leaves_unknown = True


class OfEnvironmentToTheEnd(EnvironmentKeyAuthentication):
    variables = ("TEST_LEAVING",)
    answers_missing = False


class Anybody(BaseAuthentication):
    """Accepts whatever stands in the header."""

    def authenticate(self, request: Request) -> Any:
        token = request.headers.get("X-API-Key")
        return (User(username=token), "theirs") if token else None

    def authenticate_header(self, request: Request) -> str:
        return "Anybody"


class Enveloped(Both):
    """Answers with this status, whatever has gone wrong."""

    status = 200

    def get_exception_handler(self) -> Any:
        def handle(error: Exception, context: Any) -> Response:
            found: Any = exception_handler(error, context)
            return Response({"status": found.status_code}, status=self.status)

        return handle


class Stern(BaseAuthentication):
    """Raises an exception that is none of Django REST framework's for this."""

    def authenticate(self, request: Request) -> Any:
        error = APIException("Go away.")
        error.status_code = 401
        raise error


class Nobody(BaseAuthentication):
    def authenticate(self, request: Request) -> Any:
        raise AuthenticationFailed("Not by me.")

    def authenticate_header(self, request: Request) -> str:
        return "Nobody"


def function(guard: Decorator) -> Any:
    @guard
    def view(request: HttpRequest) -> JsonResponse:
        return JsonResponse({"user": str(request.user)})

    return view


def async_function(guard: Decorator) -> Any:
    @guard
    async def view(request: HttpRequest) -> JsonResponse:
        return JsonResponse({"user": str(request.user)})

    return view


def send(address: str = "/0/", key: str = UNKNOWN, **more: Any) -> tuple[int, dict[str, Any]]:
    response = Client(raise_request_exception=False).get(address, headers={"X-API-Key": key, **more})
    return response.status_code, response.json()


def send_async(address: str = "/0/", key: str = UNKNOWN) -> tuple[int, dict[str, Any]]:
    response = async_to_sync(AsyncClient(raise_request_exception=False).get)(address, headers={"X-API-Key": key})
    return response.status_code, response.json()


SENDERS = pytest.mark.parametrize("sent", [send, send_async], ids=["wsgi", "asgi"])
