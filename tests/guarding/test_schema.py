"""What the documentation of an API says about its keys."""

import subprocess
import sys
from typing import Any

import pytest
from django.test import Client
from django.urls import path
from django.utils.decorators import method_decorator
from django.views.decorators.cache import cache_page
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import extend_schema
from drf_spectacular.validation import validate_schema
from drf_spectacular.views import SpectacularAPIView
from pytest_django import Settings
from rest_framework.authentication import SessionAuthentication
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import AllowAny, IsAdminUser, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from keys.authentication import APIKeyAuthentication, KeyringAuthentication
from keys.decorators import api_key_required
from keys.keyrings import DatabaseKeyring, EnvironmentKeyring
from keys.models import APIKey
from keys.permissions import HasAPIKey, HasScope, IsUser
from keys.throttling import APIKeyRateThrottle
from keys.verification import Guard
from tests.support.log import rows
from tests.support.processes import ROOT
from tests.views import InternalAuthentication

READ, WRITE, DELETE = HasScope("orders:read"), HasScope("orders:write"), HasScope("orders:delete")


class TokenHeader(KeyringAuthentication):
    header = "X-Service-Key"
    keyword = "Token"
    keyrings = (DatabaseKeyring(),)


class SeveralPlaces(APIKeyAuthentication):
    header = ("X-API-Key", "x-api-key", "X-Token")
    keyword = ("Token", "Basic", "Bearer", "Service'Key")


class Orders(APIView):
    """All orders."""

    authentication_classes = [APIKeyAuthentication]
    permission_classes = [HasAPIKey]
    throttle_classes = []

    @extend_schema(responses={204: None})
    def get(self, request: Request) -> Response:
        return Response(status=204)


class DescribedOrders(Orders):
    @extend_schema(description="Mine.", responses={200: None, 401: {"type": "string"}})
    def get(self, request: Request) -> Response:
        return Response()


@method_decorator(api_key_required("orders:read"), name="dispatch")
class DispatchOrders(Orders):
    authentication_classes = []
    permission_classes = []


class MethodOrders(DispatchOrders):
    @extend_schema(responses={204: None})
    @method_decorator(api_key_required("orders:write"))
    def post(self, request: Request) -> Response:
        return Response(status=204)


class OrdersOfASet(ViewSet):
    authentication_classes = []
    permission_classes = []

    @extend_schema(responses={204: None})
    @method_decorator(api_key_required("orders:read"))
    def list(self, request: Request) -> Response:
        return Response(status=204)


class PlainOrders(GenericAPIView[Any]):
    """Documented by drf-spectacular's own class."""

    schema = AutoSchema()
    authentication_classes = [InternalAuthentication]
    permission_classes = [READ]
    serializer_class = Serializer

    def get(self, request: Request) -> Response:
        return Response()


def schema(view: type[APIView] = Orders, **declared: Any) -> dict[str, Any]:
    return schema_of(view.as_view(**declared))


def schema_of(view: Any) -> dict[str, Any]:
    generator = SchemaGenerator(patterns=[path("orders/", view)])  # type: ignore[no-untyped-call]
    return generator.get_schema(public=True)  # type: ignore[no-any-return, no-untyped-call]


def operation(view: type[APIView] = Orders, **declared: Any) -> dict[str, Any]:
    return schema(view, **declared)["paths"]["/orders/"]["get"]  # type: ignore[no-any-return]


def schemes(**declared: Any) -> list[tuple[str, str]]:
    """Return where each of the alternatives reads the key, in their order."""
    whole = schema(**declared)
    defined = whole["components"]["securitySchemes"]
    names = [name for requirement in whole["paths"]["/orders/"]["get"]["security"] for name in requirement]
    return [(defined[name]["in"], defined[name]["name"]) for name in names]


def test_a_key_may_be_sent_in_its_header_or_in_authorization() -> None:
    assert schemes() == [("header", "X-API-Key"), ("header", "Authorization")]


def test_each_authentication_class_has_its_own_header() -> None:
    assert schemes(authentication_classes=[InternalAuthentication]) == [("header", "X-Internal-Api-Key")]
    both = schemes(authentication_classes=[InternalAuthentication, TokenHeader])
    assert both == [("header", "X-Internal-Api-Key"), ("header", "X-Service-Key"), ("header", "Authorization")]


def test_the_word_before_the_key_is_named() -> None:
    defined = schema(authentication_classes=[TokenHeader])["components"]["securitySchemes"]
    assert "“Token”" in defined["TokenHeaderInAuthorization"]["description"]


def test_each_header_and_each_keyword_has_a_scheme() -> None:
    whole = schema(authentication_classes=[SeveralPlaces])
    validate_schema(whole)  # type: ignore[no-untyped-call]
    defined = whole["components"]["securitySchemes"]
    assert {name: {**scheme, "description": ""} for name, scheme in defined.items()} == {
        "SeveralPlaces": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": ""},
        "SeveralPlacesIn-X-Token": {"type": "apiKey", "in": "header", "name": "X-Token", "description": ""},
        "SeveralPlacesInAuthorization": {
            "type": "apiKey", "in": "header", "name": "Authorization", "description": "",
        },
        "SeveralPlacesInAuthorization-Basic": {"type": "http", "scheme": "basic", "description": ""},
        "SeveralPlacesInAuthorization-Bearer": {"type": "http", "scheme": "bearer", "description": ""},
        "SeveralPlacesInAuthorization-Service_27Key": {
            "type": "apiKey", "in": "header", "name": "Authorization", "description": "",
        },
    }  # fmt: skip
    alternatives = whole["paths"]["/orders/"]["get"]["security"]
    assert sorted(name for way in alternatives for name in way) == sorted(defined)
    assert all(len(way) == 1 for way in alternatives)


def test_other_authenticators_stay_beside_it() -> None:
    alternatives = schemes(authentication_classes=[SessionAuthentication, InternalAuthentication])
    assert alternatives == [("cookie", "sessionid"), ("header", "X-Internal-Api-Key")]


@pytest.mark.parametrize(
    ("permissions", "words"),
    [
        ([READ], "`orders:read`"),
        ([HasScope("orders:read", "orders:write")], "`orders:read` and `orders:write`"),
        ([READ, READ], "`orders:read`"),
        ([READ, WRITE], "`orders:read` and `orders:write`"),
        ([HasAPIKey & READ], "`orders:read`"),
        ([READ | WRITE], "`orders:read` or `orders:write`"),
        ([HasAPIKey & ~READ], "not `orders:read`"),
        ([~HasScope("orders:read", "orders:write")], "not (`orders:read` and `orders:write`)"),
        ([~(READ | WRITE)], "not (`orders:read` or `orders:write`)"),
        ([~~READ], "`orders:read`"),
        ([(READ | WRITE) & DELETE], "(`orders:read` or `orders:write`) and `orders:delete`"),
        ([READ, WRITE | DELETE], "`orders:read` and (`orders:write` or `orders:delete`)"),
        ([READ | IsAdminUser], "`orders:read` or IsAdminUser"),
        ([IsUser | READ, WRITE], "`orders:read` and `orders:write`"),
        ([~IsUser, READ], "`orders:read`"),
    ],
)
def test_the_description_names_the_scopes(permissions: list[Any], words: str) -> None:
    described = operation(permission_classes=permissions)["description"]
    assert described == f"All orders.\n\nScope of the API key: {words}."


@pytest.mark.parametrize(
    "permissions",
    [
        [IsUser | READ],
        [READ | IsUser],
        [(IsUser & IsAdminUser) | READ],
        [IsAuthenticated, IsUser | ~READ],
    ],
)
def test_the_description_names_users(permissions: list[Any]) -> None:
    described = operation(permission_classes=permissions)["description"]
    assert described.endswith("A user needs none.")
    assert "`orders:read`" in described


@pytest.mark.parametrize("permissions", [[HasAPIKey], [], [HasAPIKey | IsAdminUser], [~IsAdminUser]])
def test_nothing_is_said_of_scopes_where_none_is_asked_for(permissions: list[Any]) -> None:
    assert operation(permission_classes=permissions)["description"] == "All orders."


@pytest.mark.parametrize(
    ("declared", "statuses"),
    [
        ({}, {"400", "401", "503"}),
        ({"permission_classes": [READ]}, {"400", "401", "403", "503"}),
        ({"throttle_classes": [APIKeyRateThrottle]}, {"400", "401", "429", "503"}),
        # A key from the environment has no rate.
        (
            {"authentication_classes": [InternalAuthentication], "throttle_classes": [APIKeyRateThrottle]},
            {"400", "401", "503"},
        ),
        ({"authentication_classes": [SessionAuthentication]}, set()),
        ({"authentication_classes": [], "permission_classes": [AllowAny]}, set()),
    ],
)
def test_the_answers_of_a_refusal_are_there(declared: dict[str, Any], statuses: set[str]) -> None:
    assert set(operation(**declared)["responses"]) == {"204", *statuses}


class TestDecoratedViews:
    """`api_key_required` around a view of the framework, on its `dispatch`, or on one of its methods."""

    BARE: Any = {"authentication_classes": [], "permission_classes": []}
    KEY: Any = [{"APIKeyAuthentication": []}, {"APIKeyAuthenticationInAuthorization": []}]

    @pytest.mark.parametrize(
        "view",
        [
            api_key_required("orders:read")(Orders.as_view(**BARE)),
            cache_page(60)(api_key_required("orders:read")(Orders.as_view(**BARE))),
            DispatchOrders.as_view(),
            OrdersOfASet.as_view({"get": "list"}),
        ],
    )
    def test_its_guard_is_documented(self, view: Any) -> None:
        whole = schema_of(view)
        said = whole["paths"]["/orders/"]["get"]
        assert said["security"] == self.KEY
        assert said["description"].endswith("Scope of the API key: `orders:read`.")
        assert set(said["responses"]) >= {"400", "401", "403", "503"}
        assert [
            (scheme["in"], scheme["name"]) for scheme in whole["components"]["securitySchemes"].values()
        ] == [("header", "X-API-Key"), ("header", "Authorization")]  # fmt: skip

    def test_the_scopes_of_a_method_are_its_own(self) -> None:
        methods = schema_of(MethodOrders.as_view())["paths"]["/orders/"]
        assert methods["get"]["description"].endswith("Scope of the API key: `orders:read`.")
        assert methods["post"]["description"].endswith("Scope of the API key: `orders:read` and `orders:write`.")

    def test_a_guard_of_its_own_has_a_scheme_of_its_own(self) -> None:
        partner = Guard(header="X-Partner-Key", keyword=None, keyrings=(EnvironmentKeyring("PARTNER_KEY"),))
        whole = schema_of(api_key_required(guard=partner)(Orders.as_view(**self.BARE)))
        assert whole["paths"]["/orders/"]["get"]["security"] == [{"X-Partner-Key": []}]
        assert whole["components"]["securitySchemes"]["X-Partner-Key"]["name"] == "X-Partner-Key"

    def test_guards_that_share_a_header_have_schemes_of_their_own(self) -> None:
        guards = [Guard(keyword="Token"), Guard(keyword=("Basic", "Token")), Guard(header=("X-API-Key", "X-Token'"))]
        views = [api_key_required(guard=guard)(Orders.as_view(**self.BARE)) for guard in guards]
        generator = SchemaGenerator(patterns=[path(f"{number}/", view) for number, view in enumerate(views)])  # type: ignore[no-untyped-call]
        whole = generator.get_schema(public=True)  # type: ignore[no-untyped-call]
        validate_schema(whole)  # type: ignore[no-untyped-call]
        named = [
            [name for way in whole["paths"][f"/{number}/"]["get"]["security"] for name in way] for number in range(3)
        ]
        assert named == [
            ["X-API-Key", "X-API-KeyInAuthorization-Token"],
            ["X-API-Key", "X-API-KeyInAuthorization-Basic", "X-API-KeyInAuthorization-Token"],
            ["X-API-Key", "X-API-KeyIn-X-Token_27", "X-API-KeyInAuthorization"],
        ]
        assert {name for names in named for name in names} == {*whole["components"]["securitySchemes"]}

    def test_both_are_needed_where_the_view_has_an_authenticator_too(self) -> None:
        session = api_key_required()(Orders.as_view(authentication_classes=[SessionAuthentication]))
        said = schema_of(session)["paths"]["/orders/"]["get"]
        assert said["security"] == [{"cookieAuth": [], **key} for key in self.KEY]
        both = api_key_required("orders:write")(Orders.as_view(permission_classes=[READ]))
        said = schema_of(both)["paths"]["/orders/"]["get"]
        assert said["security"] == self.KEY
        assert said["description"].endswith("Scope of the API key: `orders:write` and `orders:read`.")

    def test_what_is_open_beneath_needs_the_key_alone(self) -> None:
        view = api_key_required()(Orders.as_view(authentication_classes=[], permission_classes=[AllowAny]))
        said = schema_of(view)["paths"]["/orders/"]["get"]
        assert said["security"] == self.KEY
        assert "403" not in said["responses"]


def test_the_body_of_a_refusal_is_described_once() -> None:
    whole = schema(permission_classes=[READ])
    refused = whole["paths"]["/orders/"]["get"]["responses"]["401"]["content"]["application/json"]["schema"]
    assert refused == {"$ref": "#/components/schemas/APIKeyRefusal"}
    assert whole["components"]["schemas"]["APIKeyRefusal"]["required"] == ["detail"]


def test_what_a_view_says_itself_stays() -> None:
    said = operation(DescribedOrders, permission_classes=[READ])
    assert said["description"] == "Mine.\n\nScope of the API key: `orders:read`."
    assert said["responses"]["401"]["content"]["application/json"]["schema"] == {"type": "string"}
    assert set(said["responses"]) == {"200", "400", "401", "403", "503"}


def test_the_schemes_need_no_setting() -> None:
    plain = operation(PlainOrders)
    assert plain["security"] == [{"InternalAuthentication": []}]
    assert set(plain["responses"]) == {"200"}


@pytest.mark.matrix
@pytest.mark.parametrize("blocked", ["drf_spectacular", "nothing"])
def test_drf_spectacular_is_not_needed(blocked: str) -> None:
    program = (
        f"import sys; sys.modules[{blocked!r}] = None\n"
        "import django; from django.conf import settings\n"
        "settings.configure(INSTALLED_APPS=['django.contrib.contenttypes', 'django.contrib.auth', 'keys'])\n"
        "django.setup(); import keys.authentication\n"
        "assert 'keys.schema' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=300)


@pytest.mark.django_db
@pytest.mark.parametrize("fields", [{}, {"allowed_ips": ["192.0.2.0/24"]}])
def test_a_schema_of_what_the_caller_may_do_is_one_use(fields: dict[str, Any], settings: Settings) -> None:
    """drf-spectacular asks each view, with requests of its own."""
    served = SpectacularAPIView.as_view(
        serve_public=False, authentication_classes=[APIKeyAuthentication], permission_classes=[HasAPIKey]
    )
    hidden = [path(f"{number}/", Orders.as_view(permission_classes=[WRITE])) for number in range(3)]
    addresses = [path("schema/", served), path("shown/", Orders.as_view()), *hidden]
    settings.ROOT_URLCONF = type("urls", (), {"urlpatterns": addresses})
    key = APIKey.objects.create(name="reader", scopes=["users:read"], **fields)
    answer = Client(headers={"X-API-Key": key.key}, REMOTE_ADDR="192.0.2.7").get("/schema/?format=json")
    assert {*answer.json()["paths"]} == {"/shown/"}
    assert rows() == [("used", "", "reader", 200)]
