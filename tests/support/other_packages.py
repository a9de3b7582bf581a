"""Views and keys of the packages that keys are imported from, created by those packages."""

from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from django.urls import path
from knox.auth import TokenAuthentication as KnoxAuthentication
from knox.models import AuthToken
from rest_framework.authentication import TokenAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_api_key.models import APIKey as OtherAPIKey
from rest_framework_api_key.permissions import HasAPIKey as OtherHasAPIKey

from keys.authentication import APIKeyAuthentication, KeyringAuthentication
from keys.keyrings import DatabaseKeyring
from keys.permissions import HasScope


class TokenHeader(KeyringAuthentication):
    keyword = "Token"
    keyrings = (DatabaseKeyring(),)


class New(APIView):
    authentication_classes = [APIKeyAuthentication, TokenHeader]
    permission_classes = [HasScope("users:read")]

    def get(self, request: Request) -> Response:
        return Response({"name": getattr(request.auth, "name", None)})


def old(**guard: Any) -> Any:
    return New.as_view(**{"authentication_classes": [], "permission_classes": [], **guard})


urlpatterns = [
    path("new/", New.as_view()),
    path("authtoken/", old(authentication_classes=[TokenAuthentication], permission_classes=[IsAuthenticated])),
    path("knox/", old(authentication_classes=[KnoxAuthentication], permission_classes=[IsAuthenticated])),
    path("api-key/", old(permission_classes=[OtherHasAPIKey])),
]


def user(name: str = "alice", **fields: Any) -> User:
    return User.objects.create(username=name, **fields)


def authtoken() -> str:
    return f"Token {Token.objects.create(user=user()).key}"


def knox() -> str:
    return f"Token {AuthToken.objects.create(user())[1]}"


def api_key(**fields: Any) -> str:
    return f"Api-Key {OtherAPIKey.objects.create_key(**{'name': 'alice', **fields})[1]}"


def call(address: str, authorization: str) -> int:
    client = Client(raise_request_exception=False)
    return client.get(address, headers={"Authorization": authorization}).status_code
