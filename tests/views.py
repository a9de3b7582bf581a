"""Views that each guard something in a way of their own."""

import json
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions, permissions, viewsets
from rest_framework.authentication import SessionAuthentication
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from keys.authentication import APIKeyAuthentication, EnvironmentKeyAuthentication, KeyringAuthentication
from keys.decorators import api_key_required
from keys.keyrings import DatabaseKeyring, EnvironmentKeyring
from keys.permissions import HasAPIKey, HasScope, IsUser
from keys.throttling import APIKeyRateThrottle


class InternalAuthentication(EnvironmentKeyAuthentication):
    header = "X-Internal-Api-Key"
    variables = ("TEST_DEDICATED_KEY", "TEST_SHARED_KEY")
    refused_detail = "Invalid or missing internal API key"
    not_configured_detail = "Internal API not configured"


class MixedAuthentication(KeyringAuthentication):
    """Every kind of key in one header."""

    keyrings = (
        EnvironmentKeyring("TEST_DEDICATED_KEY", scopes=["tracking:write"]),
        EnvironmentKeyring("TEST_SHARED_KEY", enabled_by="TEST_ALLOW_SHARED", scopes=["tracking:write"]),
        DatabaseKeyring(),
    )


class InternalHeaderAuthentication(KeyringAuthentication):
    """Leaves requests without its header to the next authenticator."""

    header = "X-Internal-Api-Key"
    keyrings = (DatabaseKeyring(),)


def name_of(request: Request) -> str:
    key: Any = request.auth
    return str(key.name)


class Guarded(APIView):
    """Any key opens it; `?status=` chooses how it ends."""

    authentication_classes = [APIKeyAuthentication]
    permission_classes = [HasAPIKey]

    def get(self, request: Request, anything: str = "") -> Response:
        match request.query_params.get("status"):
            case "400":
                raise exceptions.ValidationError("bad")
            case "403":
                raise exceptions.PermissionDenied
            case "404":
                raise exceptions.NotFound
            case "429":
                raise exceptions.Throttled(wait=1)
            case "500":
                raise RuntimeError("the view broke")
        return Response({"name": name_of(request), "user": str(request.user)})

    def post(self, request: Request, anything: str = "") -> Response:
        return Response({"got": request.data}, status=201)


class Scoped(Guarded):
    permission_classes = [HasScope("users:read")]


class EitherScope(Guarded):
    permission_classes = [HasScope("employees:read") | HasScope("users:read")]


class NotScope(Guarded):
    permission_classes = [HasAPIKey & ~HasScope("users:read")]


class DenyObject(permissions.BasePermission):
    """Lets everybody into the view, and nobody to the object."""

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        return False


class OnAnObject(APIView):
    """The object permission decides: `DenyObject | HasScope`."""

    authentication_classes = [APIKeyAuthentication]
    permission_classes = [DenyObject | HasScope("users:read")]

    def get(self, request: Request) -> Response:
        self.check_object_permissions(request, None)
        return Response({})


class NotScopeOnAnObject(OnAnObject):
    permission_classes = [HasAPIKey & ~HasScope("users:read")]


class InnerRefusal(Guarded):
    """The key has what it takes; it is the view that says no."""

    permission_classes = [HasScope("employees:read") | HasScope("users:read")]

    def get(self, request: Request, anything: str = "") -> Response:
        raise exceptions.PermissionDenied("not on Sundays")


class Throttled(Guarded):
    throttle_classes = [APIKeyRateThrottle]


class AfterSession(Guarded):
    """The key is asked for only when nobody is logged in."""

    authentication_classes = [SessionAuthentication, APIKeyAuthentication]
    permission_classes = [IsUser | HasAPIKey]

    def get(self, request: Request, anything: str = "") -> Response:
        if request.query_params.get("status") == "400":
            raise exceptions.ValidationError("bad")
        return Response({"user": str(request.user)})


class Writing(Guarded):
    """Leaves something in the database."""

    def get(self, request: Request, anything: str = "") -> Response:
        User.objects.create(username=request.path)
        return Response(status=201)


@api_key_required("users:read")
def plain(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"name": request.auth.name})  # type: ignore[attr-defined]


@api_key_required()
async def plain_async(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"name": request.auth.name})  # type: ignore[attr-defined]


@method_decorator(api_key_required("users:read"), name="dispatch")
class PlainClass(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse({"got": json.loads(request.body)})


class ByMethod(View):
    """Only one of its methods asks for a key."""

    @method_decorator(api_key_required("users:read"))
    def get(self, request: HttpRequest) -> HttpResponse:
        if "break" in request.GET:
            raise RuntimeError("the view broke")
        return JsonResponse({"name": request.auth.name})  # type: ignore[attr-defined]

    def put(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse({})


class ByMethodOfTheFramework(APIView):
    """A view of Django REST framework whose method alone asks for a key, and gets the framework's request."""

    authentication_classes = []
    permission_classes = []

    @method_decorator(api_key_required("users:read"))
    def get(self, request: Request) -> Response:
        return Response({"name": name_of(request)})


class ReadOnly(permissions.BasePermission):
    def has_permission(self, request: Request, view: Any) -> bool:
        return request.method in permissions.SAFE_METHODS


class PublicToRead(Guarded):
    """Only writing asks for a key: the view itself names its authenticators."""

    permission_classes = [ReadOnly | HasAPIKey]

    def get_authenticators(self) -> list[Any]:
        assert self.request is not None
        return [] if self.request.method == "GET" else super().get_authenticators()

    def get(self, request: Request, anything: str = "") -> Response:
        return Response({"user": str(request.user)})


class NamedLate(Guarded):
    """The authenticator is named by a method alone."""

    authentication_classes = []

    def get_authenticators(self) -> list[Any]:
        return [APIKeyAuthentication()]


class Jobs(viewsets.ViewSet):
    """Reading asks for a database key; the action asks for that of the environment."""

    authentication_classes = [APIKeyAuthentication]
    permission_classes = [HasAPIKey]

    def list(self, request: Request) -> Response:
        return Response({"name": name_of(request)})

    @action(detail=False, methods=["post"], authentication_classes=[InternalAuthentication])
    def run(self, request: Request) -> Response:
        return Response({"name": name_of(request)})


class Internal(Guarded):
    authentication_classes = [InternalAuthentication]


class Mixed(Guarded):
    authentication_classes = [MixedAuthentication]


class TwoHeaders(Guarded):
    authentication_classes = [InternalHeaderAuthentication, APIKeyAuthentication]


class SeveralPlacesAuthentication(APIKeyAuthentication):
    header = ("X-API-Key", "X-API-Token")
    keyword = ("Api-Key", "Token", "Basic")


class SeveralPlaces(Guarded):
    authentication_classes = [SeveralPlacesAuthentication]


@api_key_required(guard=SeveralPlacesAuthentication.guard)
async def several_places_async(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"name": request.auth.name})  # type: ignore[attr-defined]


class AsyncClass(View):
    """A class-based view with an async handler; `dispatch` itself is not async."""

    @method_decorator(api_key_required())
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return super().dispatch(request, *args, **kwargs)

    async def get(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse({"name": request.auth.name})  # type: ignore[attr-defined]


class AsyncMethod(View):
    @method_decorator(api_key_required())
    async def get(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse({"name": request.auth.name})  # type: ignore[attr-defined]


@method_decorator([api_key_required(), csrf_exempt], name="dispatch")
class AsyncBehindAnother(View):
    """The guard is around another decorator."""

    async def get(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse({"name": request.auth.name})  # type: ignore[attr-defined]
