"""Keys that act as their owner, and who is `request.user` where a key has opened a view: in each kind of view."""

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import engines
from django.test import AsyncClient, Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from drf_spectacular.views import SpectacularAPIView
from ninja import NinjaAPI
from pytest_django import Settings
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import AllowAny, DjangoModelPermissions, IsAdminUser, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import CurrentUserDefault
from rest_framework.throttling import UserRateThrottle
from rest_framework.views import APIView

from keys.actor import is_person
from keys.authentication import APIKeyAuthentication, KeyringAuthentication, ServicePrincipal
from keys.decorators import api_key_required
from keys.keyrings import DatabaseKeyring, EnvironmentKey
from keys.models import APIKey, AuditEvent, owners
from keys.ninja import APIKeyAuth
from keys.permissions import HasAPIKey, HasScope, IsUser
from keys.selfservice import rules
from keys.selfservice.api import APIKeyViewSet
from keys.testing import unrecorded
from keys.verification import Guard, is_from_person
from tests.support.callers import get, post
from tests.support.keys import make_key, pickled
from tests.support.log import rows

pytestmark = pytest.mark.django_db

AS_OWNER = Guard(acts_as_owner=True)
seen: list[Any] = []


class ActingAuthentication(APIKeyAuthentication):
    acts_as_owner = True


def said(request: Any) -> dict[str, Any]:
    """Say whom the view sees, and let the test see it, too."""
    seen.append(request.user)
    return {"user": str(request.user), "key": getattr(request.auth, "name", None)}


class Framework(APIView):
    authentication_classes = [SessionAuthentication, ActingAuthentication]
    permission_classes: Any = [HasAPIKey]
    queryset = User.objects.all()

    def get(self, request: Request) -> Response:
        return Response(said(request))

    def post(self, request: Request) -> Response:
        APIKey.objects.create(name="made")
        return Response(said(request))


@api_key_required(guard=AS_OWNER)
def plain(request: HttpRequest) -> JsonResponse:
    if request.method == "POST":
        APIKey.objects.create(name="made")
    return JsonResponse(said(request))


@api_key_required(guard=AS_OWNER)
async def plain_async(request: HttpRequest) -> JsonResponse:
    assert await request.auser() == request.user
    if request.method == "POST":
        await APIKey.objects.acreate(name="made")
    return JsonResponse(said(request))


@method_decorator(api_key_required(guard=AS_OWNER), name="dispatch")
class OfAClass(View):
    def get(self, request: HttpRequest) -> JsonResponse:
        return JsonResponse(said(request))

    def post(self, request: HttpRequest) -> JsonResponse:
        APIKey.objects.create(name="made")
        return JsonResponse(said(request))


ninja = NinjaAPI(urls_namespace="people", auth=APIKeyAuth(guard=AS_OWNER))


@ninja.get("/")
def in_ninja(request: HttpRequest) -> dict[str, Any]:
    return said(request)


@ninja.post("/")
def made_in_ninja(request: HttpRequest) -> dict[str, Any]:
    APIKey.objects.create(name="made")
    return said(request)


@api_key_required()
def as_service(request: HttpRequest) -> HttpResponse:
    seen.append(request.user)
    text = engines["django"].from_string("{{ user.username }} {{ perms.auth.add_user }}").render({}, request)
    return HttpResponse(text)


@api_key_required()
async def as_service_async(request: HttpRequest) -> HttpResponse:
    seen.append(await request.auser())
    return HttpResponse(request.user.get_username())


services = NinjaAPI(urls_namespace="services", auth=APIKeyAuth())


@services.get("/")
def service_in_ninja(request: HttpRequest) -> str:
    seen.append(request.user)
    return request.user.get_username()


urlpatterns = [
    path("framework/", Framework.as_view()),
    path("plain/", plain),
    path("plain-async/", plain_async),
    path("class/", OfAClass.as_view()),
    path("ninja/", ninja.urls),
    path("as-service/", as_service),
    path("as-service-async/", as_service_async),
    path("service-in-ninja/", services.urls),
]
ACTING = ["/framework/", "/plain/", "/plain-async/", "/class/", "/ninja/"]


@pytest.fixture(autouse=True)
def _addresses(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__
    settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User", "auth.Group"]}
    seen.clear()


@pytest.fixture
def anna() -> User:
    return User.objects.create(username="anna")


@pytest.fixture
def hers(anna: User) -> APIKey:
    return make_key("Billing", owner=anna, scopes=["users:read"])


def serve(settings: Settings, view: type[APIView] = Framework, **declared: Any) -> None:
    settings.ROOT_URLCONF = (path("", view.as_view(**declared)),)


class TestActingAsTheOwner:
    @pytest.mark.parametrize("address", ACTING)
    def test_the_user_is_the_owner_and_the_key_stays_the_key(self, address: str, hers: APIKey, anna: User) -> None:
        assert get(address, hers).json() == {"user": "anna", "key": "Billing"}
        (user,) = seen
        assert type(user) is get_user_model()
        assert user == anna
        assert rows() == [("used", "", "Billing", 200)]

    @pytest.mark.parametrize("address", ACTING)
    def test_under_asgi(self, address: str, hers: APIKey) -> None:
        answer = async_to_sync(AsyncClient().get)(address, headers={"X-API-Key": str(hers.key)})
        assert answer.json() == {"user": "anna", "key": "Billing"}
        assert rows() == [("used", "", "Billing", 200)]

    @pytest.mark.parametrize("address", ACTING)
    @pytest.mark.parametrize("owner", [None, "a group"])
    def test_without_a_user_it_is_the_service(self, address: str, owner: str | None) -> None:
        from django.contrib.auth.models import Group

        group = Group.objects.create(name="shop") if owner else None
        key = make_key("Shop", owner=group)
        assert get(address, key).json() == {"user": "key:Shop", "key": "Shop"}
        assert seen == [ServicePrincipal(key)]

    @pytest.mark.parametrize("address", ACTING)
    def test_it_takes_no_query_more(self, address: str, hers: APIKey) -> None:
        with unrecorded(), CaptureQueriesContext(connection) as queries:
            assert get(address, hers).status_code == 200
        statements = [query["sql"] for query in queries.captured_queries if "SAVEPOINT" not in query["sql"]]
        assert len(statements) == 2, statements  # the key and its owner

    @pytest.mark.parametrize("address", ACTING)
    def test_an_owner_who_has_left(self, address: str, hers: APIKey, anna: User) -> None:
        User.objects.update(is_active=False)
        assert get(address, hers).status_code == 401
        assert not seen
        assert rows() == [("refused", "owner", "Billing", 401)]

    def test_a_child_of_the_user_model_is_a_user(self, settings: Settings, hers: APIKey) -> None:
        settings.KEYS = {**settings.KEYS, "OWNERS": [f"{Proxy._meta.label}"]}
        assert get("/plain/", hers).json()["user"] == "anna"
        assert isinstance(seen[0], User)

    def test_the_holder_of_another_keyring(self, settings: Settings, anna: User) -> None:
        class Elsewhere:
            owner_ref = ""

            def is_configured(self) -> bool:
                return True

            def find(self, token: str) -> EnvironmentKey:
                return EnvironmentKey("warehouse", owner_ref=self.owner_ref)

        ring = Elsewhere()
        guard = Guard(keyrings=(ring,), acts_as_owner=True)
        settings.ROOT_URLCONF = (path("", api_key_required(guard=guard)(lambda request: JsonResponse(said(request)))),)
        assert get("/", "0" * 40).json()["user"] == "key:warehouse"
        ring.owner_ref = owners.ref_of(anna)
        assert get("/", "0" * 40).json()["user"] == "anna"
        ring.owner_ref = f"auth.user:{anna.pk + 1}"
        assert get("/", "0" * 40).status_code == 401

    def test_two_views_of_one_guard_make_one_decision(self, hers: APIKey) -> None:
        # Whom a key acts as decides nothing of the key, so it gets no second row.
        assert Guard() == AS_OWNER

        def both(request: HttpRequest) -> JsonResponse:
            inner = api_key_required()(lambda request: JsonResponse(said(request)))
            return JsonResponse({"inner": inner(request).status_code, **said(request)})

        request = RequestFactory().get("/", headers={"X-API-Key": str(hers.key)})
        request.resolver_match = None
        assert api_key_required(guard=AS_OWNER)(both)(request).status_code == 200
        assert [str(user) for user in seen] == ["key:Billing", "key:Billing"]

    def test_nobody_is_logged_in_by_it(self, hers: APIKey) -> None:
        for address in ACTING:
            answer = get(address, hers)
            assert not answer.cookies
            assert Client().get(address).status_code in {401, 403}  # 403 where sessions come first
        assert not Session.objects.exists()

    @pytest.mark.matrix
    def test_whoever_is_logged_in_beside_it_is_not_the_user(self, hers: APIKey) -> None:
        client = Client(headers={"X-API-Key": str(hers.key)})
        client.force_login(User.objects.create(username="bob"))
        assert [client.get(address).json()["user"] for address in ACTING[1:]] == ["anna"] * 4
        # The authenticators of Django REST framework are asked in their order.
        assert client.get("/framework/", headers={"X-API-Key": "0" * 40}).status_code == 403


class Proxy(User):
    class Meta:
        proxy = True
        app_label = "accounts"


class TestWhatTheOwnerMay:
    """What looks at the user sees the owner; what asks for people, or for scopes, sees the key."""

    @pytest.mark.parametrize(
        ("permissions", "scopes", "status"),
        [
            ([IsAuthenticated], [], 200), ([HasAPIKey], [], 200), ([IsUser], ["*"], 403), ([~IsUser], [], 200),
            ([HasScope("users:read")], [], 403), ([HasScope("users:read")], ["users:read"], 200),
            ([IsUser | HasScope("users:read")], [], 403), ([IsUser | HasScope("users:read")], ["users:*"], 200),
            ([IsAdminUser], [], 200), ([DjangoModelPermissions], [], 200),
            ([IsAdminUser & HasScope("users:read")], [], 403), ([IsAdminUser, HasScope("users:read")], ["*"], 200),
        ],
    )  # fmt: skip
    def test_of_a_superuser(self, permissions: Any, scopes: list[str], status: int, settings: Settings) -> None:
        boss = User.objects.create_superuser("boss")
        key = make_key("Boss", owner=boss, scopes=scopes)
        serve(settings, permission_classes=permissions)
        assert get("/", key).status_code == status
        event = AuditEvent.objects.exclude(method="").get()
        assert (event.reason == "scope") is (status == 403 and permissions != [IsUser])

    def test_of_somebody_with_a_permission(self, settings: Settings, hers: APIKey, anna: User) -> None:
        serve(settings, permission_classes=[HasScope("users:read"), DjangoModelPermissions])
        client = Client(headers={"X-API-Key": str(hers.key)})
        assert post(client, "/", {}).status_code == 403
        anna.user_permissions.add(Permission.objects.get(codename="add_user"))
        assert post(client, "/", {}).status_code == 200

    def test_no_csrf_token_is_asked_of_a_key(self, hers: APIKey) -> None:
        client = Client(enforce_csrf_checks=True, headers={"X-API-Key": str(hers.key)})
        assert [client.post(address).status_code for address in ACTING] == [200] * 5

    def test_throttles_count_for_the_owner(self, settings: Settings, hers: APIKey, anna: User) -> None:
        class Twice(UserRateThrottle):
            rate = "2/hour"

        cache.clear()
        serve(settings, throttle_classes=[Twice])
        other = make_key("Other", owner=anna)
        assert [get("/", key).status_code for key in (hers, other, hers)] == [200, 200, 429]

    def test_what_stores_a_user(self, hers: APIKey, anna: User) -> None:
        get("/framework/", hers)
        entry = LogEntry.objects.create(user=seen[0], action_flag=CHANGE, object_repr="x")
        assert LogEntry.objects.get(pk=entry.pk).user == anna
        assert list(LogEntry.objects.filter(user=seen[0])) == [entry]
        field: Any = SimpleNamespace(context={"request": SimpleNamespace(user=seen[0])})
        assert CurrentUserDefault()(field) == anna

    def test_documentation_made_for_the_caller(self, settings: Settings, hers: APIKey) -> None:
        declared: Any = {
            "authentication_classes": [ActingAuthentication], "permission_classes": [HasScope("users:read")],
        }  # fmt: skip
        addresses = [
            path("schema/", SpectacularAPIView.as_view(serve_public=False, **declared)),
            path("mine/", Framework.as_view(**declared)),
            path("not-mine/", Framework.as_view(**{**declared, "permission_classes": [HasScope("users:write")]})),
        ]
        settings.ROOT_URLCONF = type("urls", (), {"urlpatterns": addresses})
        answer = get("/schema/?format=json", hers)
        assert {*answer.json()["paths"]} == {"/mine/"}
        assert rows() == [("used", "", "Billing", 200)]


class TestNobodyTakesItForAPerson:
    """Whatever a view does with the request: its copies, those it builds, and the user alone."""

    @pytest.mark.parametrize("address", ACTING)
    def test_the_user_alone(self, address: str, hers: APIKey, anna: User) -> None:
        get(address, hers)
        (user,) = seen
        assert not is_person(user)
        assert not is_person(copy.copy(user))
        assert not is_person(copy.deepcopy(user))
        assert is_person(anna)
        assert is_person(User.objects.get())

    def test_a_user_from_a_cache_is_a_person(self, hers: APIKey) -> None:
        get("/plain/", hers)
        assert is_person(pickled(seen[0]))

    def test_a_request_that_the_view_builds_for_its_user(self, settings: Settings, hers: APIKey) -> None:
        def within(request: HttpRequest) -> HttpResponse:
            inner = RequestFactory().get("/")
            inner.user = request.user
            answers = []
            for permission in (IsUser, AllowAny):
                view = Framework.as_view(
                    authentication_classes=[SessionAuthentication], permission_classes=[permission]
                )
                answers.append(view(inner).status_code)
            return JsonResponse({"answers": answers})

        settings.ROOT_URLCONF = (path("", api_key_required(guard=AS_OWNER)(within)),)
        assert get("/", hers).json() == {"answers": [403, 200]}

    @pytest.mark.parametrize("make", [lambda request: RequestFactory().post("/", {"name": "made"}), copy.copy])
    def test_who_makes_keys(
        self, make: Callable[[HttpRequest], HttpRequest], settings: Settings, hers: APIKey, anna: User
    ) -> None:
        made = APIKeyViewSet.as_view({"post": "create"}, authentication_classes=[SessionAuthentication])

        def within(request: HttpRequest) -> HttpResponse:
            inner = make(request)
            inner.user, inner._dont_enforce_csrf_checks = request.user, True  # type: ignore[attr-defined]
            with pytest.raises(ValidationError):
                rules.create(request.user, name="made")
            return JsonResponse({"api": made(inner).status_code})

        settings.ROOT_URLCONF = (path("", api_key_required(guard=AS_OWNER)(within)),)
        answer = Client(headers={"X-API-Key": str(hers.key)}).post("/", {"name": "made"})
        assert answer.json() == {"api": 403}
        assert APIKey.objects.count() == 1
        # Anna herself may.
        assert rules.create(anna, name="made").owner == anna

    @pytest.mark.parametrize("make", [copy.copy, Request])
    def test_the_request(self, make: Callable[[Any], Any], settings: Settings, hers: APIKey) -> None:
        def look(request: HttpRequest) -> JsonResponse:
            made = make(request)
            return JsonResponse({"person": is_from_person(made)})

        settings.ROOT_URLCONF = (path("", api_key_required(guard=AS_OWNER)(look)),)
        assert get("/", hers).json() == {"person": False}

    def test_a_person(self, anna: User) -> None:
        request = RequestFactory().get("/")
        assert not is_from_person(request)
        request.user = anna
        assert is_from_person(request)


class TestTheActorOfAChange:
    @pytest.mark.parametrize("address", ACTING)
    def test_is_the_owner_by_the_key(self, address: str, hers: APIKey) -> None:
        assert post(Client(headers={"X-API-Key": str(hers.key)}), address, {}).status_code == 200
        assert AuditEvent.objects.get(event="created", key_name="made").actor == "user: anna (key:Billing)"

    @pytest.mark.parametrize("address", ACTING)
    def test_is_the_key_without_a_user(self, address: str) -> None:
        key = APIKey.objects.create(name="Shop")
        client = Client(headers={"X-API-Key": str(key.key)})
        client.force_login(User.objects.create(username="bob"))
        if address != "/framework/":  # there the session comes first
            post(client, address, {})
            assert AuditEvent.objects.get(event="created", key_name="made").actor == "key:Shop"


class TestPlainViewsOfServices:
    @pytest.mark.parametrize(
        ("address", "text"),
        [("/as-service/", "key:Shop False"), ("/as-service-async/", "key:Shop"), ("/service-in-ninja/", '"key:Shop"')],
    )
    def test_the_user_is_the_service(self, address: str, text: str, hers: APIKey) -> None:
        key = APIKey.objects.create(name="Shop")
        client = Client(headers={"X-API-Key": str(key.key)})
        client.force_login(User.objects.create(username="bob"))
        assert client.get(address).content.decode() == text
        assert seen == [ServicePrincipal(key)]
        # An owner is nobody where the guard does not say so.
        assert get(address, hers).status_code == 200
        assert seen[1:] == [ServicePrincipal(hers)]

    @pytest.mark.parametrize("view", [Framework.as_view(), Framework], ids=["around the view", "on its dispatch"])
    def test_views_of_the_framework_ask_for_themselves(self, view: Any, settings: Settings) -> None:
        # Its SessionAuthentication would take the service for a session, and ask for a CSRF token.
        key = APIKey.objects.create(name="Shop")
        declared: Any = {"authentication_classes": [SessionAuthentication], "permission_classes": [AllowAny]}
        if view is Framework:
            made: Any = type("Decorated", (Framework,), declared)
            outer = method_decorator(api_key_required(), name="dispatch")(made).as_view()
        else:
            outer = api_key_required()(Framework.as_view(**declared))
        settings.ROOT_URLCONF = (path("", outer),)
        client = Client(enforce_csrf_checks=True, headers={"X-API-Key": str(key.key)})
        assert client.post("/").json() == {"user": "AnonymousUser", "key": None}


def test_every_holder_says_what_it_may() -> None:
    key = APIKey.objects.create(name="Shop", scopes=["users:*"])
    for holder in (key, EnvironmentKey("env:X", scopes=("users:*",))):
        assert [holder.has_scope(scope) for scope in ("users:read", "users:*", "tracking:write", "*")] == [
            True, True, False, False
        ]  # fmt: skip


def test_a_keyring_of_its_own_may_act_as_owners(settings: Settings, anna: User) -> None:
    class Reader(KeyringAuthentication):
        header = "X-Partner-Key"
        keyrings = (DatabaseKeyring(),)
        acts_as_owner = True

    key = make_key("Partner", owner=anna)
    serve(settings, authentication_classes=[Reader])
    assert Client().get("/", headers={"X-Partner-Key": str(key.key)}).json() == {"user": "anna", "key": "Partner"}
    assert owners.of(key) == anna
