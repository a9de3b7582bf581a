"""System checks of two systems in one header: which of them never sees the tokens that are its own."""

from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import path
from knox.auth import TokenAuthentication as KnoxAuthentication
from ninja import NinjaAPI
from ninja.security import django_auth
from pytest_django import Settings
from rest_framework.authentication import BasicAuthentication, SessionAuthentication, TokenAuthentication
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework_api_key.permissions import HasAPIKey as OtherHasAPIKey
from rest_framework_simplejwt.authentication import JWTAuthentication

from keys.authentication import APIKeyAuthentication, KeyringAuthentication
from keys.decorators import api_key_required
from keys.keyrings import DatabaseKeyring
from keys.ninja import APIKeyAuth
from keys.permissions import HasScope
from keys.verification import Guard
from tests.support.commands import found, serve
from tests.support.two_systems import Ours, OursToTheEnd, PatientKnox, PatientTokens, guarded_by

IDS = ["keys.E039", "keys.W039", "keys.W040"]
LEAVES = Guard(leaves_unknown=True)
READ = HasScope("users:read")


class Bearer(KeyringAuthentication):
    keyword = ["bearer", "Basic"]
    keyrings = (DatabaseKeyring(),)


class BearerThatLeaves(Bearer):
    leaves_unknown = True


class OldBearer(TokenAuthentication):
    """Its word is another, what it decides is the same."""

    keyword = "Bearer"


class Strange(TokenAuthentication):
    def authenticate_header(self, request: Any) -> str:
        return str(request.headers["X-Unknown"])


def ids(settings: Settings, *views: Any) -> list[str]:
    serve(settings, *views)
    return [each for each in IDS for _ in found(each)]


@pytest.mark.parametrize(
    ("old", "ours", "leaves"),
    [
        (TokenAuthentication, OursToTheEnd, Ours),
        (KnoxAuthentication, OursToTheEnd, Ours),
        (BasicAuthentication, Bearer, BearerThatLeaves),
        (OldBearer, Bearer, BearerThatLeaves),
        (JWTAuthentication, Bearer, BearerThatLeaves),
    ],
)
def test_an_authenticator_that_answers_for_every_token(settings: Settings, old: Any, ours: Any, leaves: Any) -> None:
    assert ids(settings, guarded_by(old, ours)) == ["keys.W039"]
    assert ids(settings, guarded_by(ours, old)) == ["keys.E039"]
    assert ids(settings, guarded_by(leaves, old)) == []
    assert ids(settings, guarded_by(leaves, SessionAuthentication, old)) == []
    assert ids(settings, guarded_by(old, leaves)) == ["keys.W039", "keys.W040"]


def test_each_is_named(settings: Settings) -> None:
    serve(settings, guarded_by(KnoxAuthentication, Ours, SessionAuthentication), guarded_by(OursToTheEnd, OldBearer))
    (message,) = found("keys.W039")
    assert "TokenAuthentication answers 401 to keys after the word “Token”" in message
    assert "leaves_unknown = True" in message


@pytest.mark.parametrize(
    "authenticators",
    [
        [PatientTokens, OursToTheEnd], [PatientKnox, OursToTheEnd], [TokenAuthentication, APIKeyAuthentication],
        [APIKeyAuthentication, TokenAuthentication], [SessionAuthentication, OursToTheEnd], [TokenAuthentication],
        [Strange, OursToTheEnd], [OursToTheEnd],
    ],
)  # fmt: skip
def test_those_that_do_not_get_in_each_others_way(settings: Settings, authenticators: list[Any]) -> None:
    assert ids(settings, guarded_by(*authenticators)) == []


class TestNobodyFollows:
    def test_in_a_view_of_django_rest_framework(self, settings: Settings) -> None:
        assert ids(settings, guarded_by(Ours)) == ["keys.W040"]
        assert ids(settings, guarded_by(SessionAuthentication, Ours)) == ["keys.W040"]
        assert ids(settings, guarded_by(Ours, SessionAuthentication)) == []

    @pytest.mark.parametrize(
        "permissions",
        [
            [OtherHasAPIKey],
            [HasScope("users:read") | OtherHasAPIKey],
            [IsAuthenticated, OtherHasAPIKey],
            [AllowAny],
            [],
        ],
    )
    def test_but_for_permissions_that_may(self, settings: Settings, permissions: list[Any]) -> None:
        assert ids(settings, guarded_by(Ours, permission_classes=permissions)) == []

    def test_in_a_plain_view(self, settings: Settings) -> None:
        @api_key_required(guard=LEAVES)
        def view(request: HttpRequest) -> HttpResponse:
            return HttpResponse()

        @api_key_required(guard=LEAVES, or_user=True)
        def for_users(request: HttpRequest) -> HttpResponse:
            return HttpResponse()

        assert (ids(settings, view), ids(settings, for_users)) == (["keys.W040"], [])

    def test_in_ninja(self, settings: Settings) -> None:
        api = NinjaAPI(urls_namespace="sharing")

        @api.get("/alone", auth=APIKeyAuth(guard=LEAVES))
        def alone(request: HttpRequest) -> dict[str, str]:
            return {}

        @api.get("/followed", auth=[APIKeyAuth(guard=LEAVES), django_auth])
        def followed(request: HttpRequest) -> dict[str, str]:
            return {}

        settings.ROOT_URLCONF = (path("ninja/", api.urls),)
        (message,) = found("keys.W040")
        assert message.startswith(f"{__name__}.alone (/ninja/alone)")
