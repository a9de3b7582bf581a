"""System checks of who gets into a view: a key without any scope, where the view does not say so."""

from functools import cached_property
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.utils.decorators import method_decorator
from django.utils.functional import classproperty
from django.views.decorators.cache import never_cache
from ninja import NinjaAPI
from pytest_django import Settings
from rest_framework.authentication import SessionAuthentication
from rest_framework.decorators import action, api_view, authentication_classes, permission_classes
from rest_framework.permissions import (
    AllowAny,
    BasePermission,
    DjangoModelPermissions,
    DjangoModelPermissionsOrAnonReadOnly,
    DjangoObjectPermissions,
    IsAdminUser,
    IsAuthenticated,
    IsAuthenticatedOrReadOnly,
)
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import DefaultRouter
from rest_framework.views import APIView
from rest_framework.viewsets import ModelViewSet, ViewSet

from keys.authentication import APIKeyAuthentication, EnvironmentKeyAuthentication, KeyringAuthentication
from keys.decorators import api_key_required
from keys.keyrings import EnvironmentKeyring
from keys.models import APIKey
from keys.ninja import APIKeyAuth
from keys.permissions import HasAPIKey, HasScope, IsUser
from keys.verification import Guard
from tests.support.commands import found, serve
from tests.support.keys import make_key

READ = HasScope("users:read")


class Weekday(BasePermission):
    """What only the project knows."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return True


class LoggedIn(IsAuthenticated):
    """Decides as its parent does."""

    message = "Log in."


class Own(IsAuthenticated):
    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        return False


class Often(HasScope("users:read")):  # type: ignore[misc]
    def has_permission(self, request: Request, view: Any) -> bool:
        return True


class Guarded(APIView):
    authentication_classes = [SessionAuthentication, APIKeyAuthentication]
    permission_classes: list[Any] = [HasAPIKey]
    queryset = User.objects.all()

    def get(self, request: Request) -> Response:
        return Response({})


OPEN: list[list[Any]] = [
    [], [AllowAny], [IsAuthenticated], [IsAuthenticatedOrReadOnly], [LoggedIn], [AllowAny, IsAuthenticated],
    [BasePermission], [IsAuthenticated | READ], [READ | IsAuthenticated], [(READ & IsUser) | IsAuthenticated],
    [IsAuthenticated | Weekday], [~READ], [~IsUser], [~IsAdminUser], [~(READ | IsAdminUser)], [~(READ & Weekday)],
    [~~IsAuthenticated], [IsAuthenticated & ~READ], [IsAuthenticated | ~HasAPIKey], [~(IsUser | READ)],
]  # fmt: skip
CLOSED: list[list[Any]] = [
    [READ], [IsAuthenticated, READ], [IsAuthenticated & READ], [IsUser], [IsUser | READ], [READ | IsAdminUser],
    [~~READ], [~IsAuthenticated], [~HasAPIKey], [IsAdminUser], [READ, HasAPIKey], [DjangoModelPermissions],
    [DjangoModelPermissionsOrAnonReadOnly], [DjangoObjectPermissions],
]  # fmt: skip
SAID: list[list[Any]] = [
    [HasAPIKey], [IsAuthenticated, HasAPIKey], [IsUser | HasAPIKey], [HasAPIKey | READ], [IsAuthenticated | HasAPIKey],
    [HasAPIKey & ~READ],
]  # fmt: skip
UNKNOWN: list[list[Any]] = [
    [Weekday], [IsAuthenticated, Weekday], [Weekday & IsAuthenticated], [~Weekday], [Weekday | READ], [Own], [Often],
    [lambda: Weekday()],
]  # fmt: skip


@pytest.mark.parametrize("classes", OPEN)
def test_a_view_that_is_open_to_keys_without_scopes(classes: list[Any], settings: Settings) -> None:
    serve(settings, Guarded.as_view(permission_classes=classes))
    (message,) = found("keys.W015")
    assert f"{__name__}.Guarded (/0/)" in message
    assert "HasAPIKey" in message


@pytest.mark.parametrize("classes", [*CLOSED, *SAID, *UNKNOWN])
def test_a_view_that_is_not_or_says_so(classes: list[Any], settings: Settings) -> None:
    serve(settings, Guarded.as_view(permission_classes=classes))
    assert not found("keys.W015")


@pytest.mark.django_db
@pytest.mark.parametrize("classes", [*OPEN, *CLOSED, *SAID])
def test_what_the_check_says_is_true(classes: list[Any], settings: Settings) -> None:
    serve(settings, Guarded.as_view(permission_classes=classes))
    key = APIKey.objects.create(name="TTS", scopes=[])
    opens = Client(headers={"X-API-Key": key.key}).get("/0/").status_code == 200
    assert opens is (classes in OPEN or classes in SAID)


def test_the_projects_default(settings: Settings) -> None:
    class Undecided(APIView):
        authentication_classes = [APIKeyAuthentication]

    assert Undecided.permission_classes == [HasAPIKey]  # of the tests' settings
    serve(settings, Undecided.as_view())
    assert not found("keys.W015")
    Undecided.permission_classes = [IsAuthenticated]
    assert len(found("keys.W015")) == 1


def test_views_that_no_key_opens(settings: Settings) -> None:
    serve(settings, Guarded.as_view(authentication_classes=[SessionAuthentication], permission_classes=[]))
    assert not found("keys.W015")


class WithScopes(KeyringAuthentication):
    keyrings = (EnvironmentKeyring("TEST_SHARED_KEY", scopes=["users:read"]),)


class WithoutScopes(EnvironmentKeyAuthentication):
    variables = ("TEST_SHARED_KEY",)


@pytest.mark.parametrize(("reader", "warnings"), [(WithScopes, 0), (WithoutScopes, 1)])
def test_keys_of_the_environment(reader: type[Any], warnings: int, settings: Settings) -> None:
    serve(settings, Guarded.as_view(authentication_classes=[reader], permission_classes=[IsAuthenticated]))
    assert len(found("keys.W015")) == warnings
    serve(settings, Guarded.as_view(authentication_classes=[reader]))
    assert not found("keys.W015")


@pytest.mark.parametrize("method", ["get_permissions", "check_permissions", "initial"])
def test_a_view_that_decides_by_itself(method: str, settings: Settings) -> None:
    own = {method: lambda self, *arguments: getattr(APIView, method)(self, *arguments)}
    view: Any = type("View", (Guarded,), own)
    view_set: Any = type("Set", (Things,), own)
    serve(settings, view.as_view(permission_classes=[]), view_set.as_view({"get": "recent"}, permission_classes=[]))
    assert not found("keys.W015")


@pytest.mark.parametrize(("kind", "warnings"), [(property, 0), (cached_property, 0), (classproperty, 1)])
def test_permissions_that_a_property_makes(kind: Any, warnings: int, settings: Settings) -> None:
    made = kind(lambda self: [IsAuthenticated])
    if kind is cached_property:
        made.__set_name__(Guarded, "permission_classes")
    view: Any = type("View", (Guarded,), {"permission_classes": made})
    serve(settings, view.as_view())
    assert len(found("keys.W015")) == warnings


def test_a_view_whose_dispatch_has_a_decorator(settings: Settings) -> None:
    serve(settings, method_decorator(never_cache, name="dispatch")(Guarded).as_view(permission_classes=[]))
    assert len(found("keys.W015")) == 1


class Things(ViewSet):
    authentication_classes = [APIKeyAuthentication]
    permission_classes = [READ]

    def list(self, request: Request) -> Response:
        return Response()

    @action(detail=False, permission_classes=[IsAuthenticated])
    def recent(self, request: Request) -> Response:
        return Response()


class People(ModelViewSet[User]):
    authentication_classes = [APIKeyAuthentication]
    permission_classes = [IsAuthenticated]
    queryset = User.objects.all()


def test_view_sets_are_told_of_once_and_actions_by_their_address(settings: Settings) -> None:
    router = DefaultRouter()
    router.register("things", Things, basename="thing")
    router.register("people", People)
    settings.ROOT_URLCONF = tuple(router.urls)
    told = found("keys.W015")
    assert len(told) == 2
    assert "Things (/^things/recent/" in told[0]
    assert "People (/^people/" in told[1]


def test_the_list_of_addresses_of_a_router_is_none_of_its_business(settings: Settings) -> None:
    router = DefaultRouter()
    router.APIRootView = type(
        "Root", (router.APIRootView,), {"authentication_classes": [APIKeyAuthentication], "permission_classes": []}
    )
    settings.ROOT_URLCONF = tuple(router.urls)
    assert not found("keys.W015")


@api_view(["GET"])
@authentication_classes([APIKeyAuthentication])
@permission_classes([IsAuthenticated])
def function(request: Request) -> Response:
    return Response()


@api_key_required()
def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


def test_functions(settings: Settings) -> None:
    serve(settings, function, plain, api_key_required("users:read")(Guarded.as_view(permission_classes=[])))
    (message,) = found("keys.W015")
    assert "function (/0/)" in message


def test_ninja_says_so_itself(settings: Settings) -> None:
    api = NinjaAPI(urls_namespace="access", auth=APIKeyAuth())
    api.get("/any")(plain)
    settings.ROOT_URLCONF = tuple(api.urls[0])
    assert not found("keys.W015")


@pytest.mark.parametrize("urls", ["example_project.urls", "tests.urls"])
def test_the_example_and_the_tests_say_what_they_mean(urls: str, settings: Settings) -> None:
    settings.ROOT_URLCONF = urls
    assert not [*found("keys.W015"), *found("keys.W016"), *found("keys.W017")]


class ActingAuthentication(APIKeyAuthentication):
    acts_as_owner = True


def owned(settings: Settings) -> None:
    settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User"]}


BY_OWNER: list[list[Any]] = [
    [IsAdminUser], [DjangoModelPermissions], [DjangoObjectPermissions], [DjangoModelPermissionsOrAnonReadOnly],
    [IsAuthenticated, IsAdminUser], [READ | IsAdminUser], [~IsAdminUser], [IsUser | IsAdminUser],
]  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize("classes", [*BY_OWNER, *OPEN, *CLOSED, *SAID])
def test_keys_that_act_as_their_owner(classes: list[Any], settings: Settings) -> None:
    owned(settings)
    serve(settings, Guarded.as_view(authentication_classes=[ActingAuthentication], permission_classes=classes))
    told = [*found("keys.W015"), *found("keys.W030")]
    users = (User.objects.create(username="anna"), User.objects.create_superuser("boss"))
    keys = [make_key(owner=user, scopes=[]) for user in users]
    opens = [Client(headers={"X-API-Key": str(key.key)}).get("/0/").status_code == 200 for key in keys]
    if classes in SAID:
        assert not told
        return
    assert len(told) == (1 if any(opens) else 0)
    # One that lets in some owners' keys only, by what those may.
    assert bool(found("keys.W030")) or opens[0] == opens[1]


def test_a_scope_beside_the_owners_permissions(settings: Settings) -> None:
    owned(settings)
    for classes in ([READ, DjangoModelPermissions], [READ & IsAdminUser], [HasAPIKey, IsAdminUser], [IsUser | READ]):
        serve(settings, Guarded.as_view(authentication_classes=[ActingAuthentication], permission_classes=classes))
        assert not [*found("keys.W015"), *found("keys.W030")]


def test_keys_that_are_to_act_as_owners_that_are_no_users(settings: Settings) -> None:
    acting = Guard(acts_as_owner=True)
    # The second guard makes the same decisions as the first.
    both = [APIKeyAuthentication, ActingAuthentication]
    serve(settings, api_key_required(guard=acting)(plain), Guarded.as_view(authentication_classes=both), plain)
    for models in ([], ["auth.Group"]):
        settings.KEYS = {**settings.KEYS, "OWNERS": models}
        first, second = found("keys.W031")
        assert "plain (/0/)" in first
        assert "Guarded (/1/)" in second
        assert '"OWNERS": ["auth.User"]' in first
    for models in (["auth.Group", "auth.User"], ["no.Such"]):
        settings.KEYS = {**settings.KEYS, "OWNERS": models}
        assert not found("keys.W031")


def test_plain_views_for_users_too_say_so_themselves(settings: Settings) -> None:
    serve(settings, api_key_required(or_user=True)(lambda request: HttpResponse()))
    assert not [*found("keys.W015"), *found("keys.W030"), *found("keys.W032")]
