"""A view that asks for a key in its own transaction, where the middleware cannot see it coming, and then fails."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path

from keys.decorators import api_key_required
from keys.keyrings import DatabaseKeyring
from keys.verification import Guard
from tests.keyrings.old_tokens import OldTokens

fails = True


def guarded(request: HttpRequest) -> HttpResponse:
    if fails:
        raise RuntimeError("The view fails.")
    return HttpResponse()


def undone(request: HttpRequest) -> Any:
    return api_key_required(guard=Guard(keyrings=(DatabaseKeyring(), OldTokens())))(guarded)(request)


urlpatterns = [path("undone/", undone)]
