"""The ordinary addresses, and views that change the tenant."""

from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django_tenants.utils import schema_context
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.views import APIView

from keys.authentication import APIKeyAuthentication
from keys.decorators import api_key_required
from keys.permissions import HasAPIKey
from tests.worlds import urls


@api_key_required()
def visits(request: HttpRequest) -> JsonResponse:
    """Looks at another tenant and comes back."""
    with schema_context("globex"), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({})


@api_key_required()
def stays(request: HttpRequest) -> JsonResponse:
    """Goes to another tenant and does not come back."""
    connection.set_schema("globex")  # type: ignore[attr-defined]
    return JsonResponse({})


@api_key_required()
def orders(request: HttpRequest) -> JsonResponse:
    return JsonResponse({})


def guest(request: HttpRequest) -> HttpResponse:
    """Answers with a guarded view of another tenant, in a transaction."""
    with transaction.atomic(), schema_context("globex"):
        answer: HttpResponse = orders(request)
    return answer


@api_key_required()
def host(request: HttpRequest) -> HttpResponse:
    """Is guarded itself, and answers with a guarded view of another tenant."""
    return guest(request)


class Ours(APIKeyAuthentication):
    leaves_unknown = True


class Wanders(BaseAuthentication):
    """Looks for tokens in another tenant, and does not come back."""

    def authenticate(self, request: Request) -> None:
        connection.set_schema("globex")  # type: ignore[attr-defined]
        raise AuthenticationFailed

    def authenticate_header(self, request: Request) -> str:
        return "Wanders"


urlpatterns = [
    *urls.urlpatterns,
    path("visits/", visits),
    path("stays/", stays),
    path("guest/", guest),
    path("host/", host),
    path("left/", APIView.as_view(authentication_classes=[Ours, Wanders], permission_classes=[HasAPIKey])),
    path("unasked/", APIView.as_view(authentication_classes=[Wanders, Ours, Wanders], permission_classes=[HasAPIKey])),
]
