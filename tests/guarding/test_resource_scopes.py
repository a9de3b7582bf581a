"""One permission for a view set: which scope each operation asks for, at run time, in the schema, and by `check`."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import include, path
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from pytest_django import Settings
from rest_framework.authentication import SessionAuthentication
from rest_framework.decorators import action
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.serializers import ModelSerializer
from rest_framework.views import APIView
from rest_framework.viewsets import ModelViewSet, ReadOnlyModelViewSet

from keys.authentication import APIKeyAuthentication
from keys.models import APIKey
from keys.permissions import HasAPIKey, HasResourceScope, HasScope, IsUser
from keys.schema import AutoSchema
from tests.support.commands import found
from tests.support.log import rows

pytestmark = pytest.mark.django_db

NAMES = ["read", "write", "refund", "export", "purge"]


class GroupSerializer(ModelSerializer[Group]):
    class Meta:
        model = Group
        fields = ["id", "name"]


class Orders(ModelViewSet[Group]):
    authentication_classes: Any = [SessionAuthentication, APIKeyAuthentication]
    permission_classes: Any = [HasResourceScope("orders")]
    throttle_classes = []
    schema = AutoSchema()
    queryset = Group.objects.order_by("id")
    serializer_class = GroupSerializer
    action_scopes: Any = {"refund": "orders:refund", "purge": ("orders:write", "orders:purge")}

    @extend_schema(request=None, responses={204: None})
    @action(detail=True, methods=["post"])
    def refund(self, request: Request, pk: str) -> Response:
        self.get_object()
        return Response(status=204)

    @extend_schema(request=None, responses={204: None})
    @action(detail=False, methods=["delete"])
    def purge(self, request: Request) -> Response:
        return Response(status=204)

    @extend_schema(request=None, responses={204: None})
    @action(detail=False, methods=["get", "post"])
    def export(self, request: Request) -> Response:
        return Response(status=204)

    @extend_schema(request=None, responses={204: None})
    @action(detail=False, permission_classes=[HasAPIKey])
    def health(self, request: Request) -> Response:
        return Response(status=204)


class Strict(Orders):
    permission_classes = [HasResourceScope]
    action_scopes = {"list": "orders:read", "refund": "orders:refund", "retrieve": None}


class ByMethod(APIView):
    authentication_classes = [APIKeyAuthentication]
    permission_classes: Any = [HasResourceScope("orders")]
    throttle_classes = []

    def get(self, request: Request) -> Response:
        return Response()

    def post(self, request: Request) -> Response:
        return Response()


@pytest.fixture(autouse=True)
def _registered(settings: Settings) -> None:
    scopes = {f"orders:{name}": "Orders." for name in NAMES}
    settings.KEYS = {**settings.KEYS, "SCOPES": scopes, "DEFAULT_SCOPES": []}
    serve(settings, Orders)


def serve(settings: Settings, view: Any) -> None:
    router = SimpleRouter()
    router.register("orders", view, basename="order")
    settings.ROOT_URLCONF = (path("", include(router.urls)),)


def order() -> str:
    return f"/orders/{Group.objects.create(name='first').pk}/"


def ask(method: str, address: str, *scopes: str) -> int:
    key = APIKey.objects.create(name="TTS", scopes=list(scopes))
    client = Client(headers={"X-API-Key": str(key.key)}, enforce_csrf_checks=True)
    return client.generic(
        method, address, json.dumps({"name": key.prefix}), content_type="application/json"
    ).status_code


def lacks(method: str, address: str) -> str:
    """Return the scope that a key without any is told of."""
    key = APIKey.objects.create(name="TTS", scopes=[])
    client = Client(headers={"X-API-Key": str(key.key)})
    answer = client.generic(method, address, b'{"name": "x"}', content_type="application/json")
    assert answer.status_code == 403
    assert rows()[-1] == ("refused", "scope", "TTS", 403)
    detail = "" if method == "HEAD" else answer.json()["detail"]
    return str(detail).partition("“")[2].rstrip("”.")


@pytest.mark.parametrize(
    ("method", "address", "scope", "status"),
    [
        ("GET", "/orders/", "orders:read", 200), ("HEAD", "/orders/", "orders:read", 200),
        ("OPTIONS", "/orders/", "orders:read", 200), ("POST", "/orders/", "orders:write", 201),
        ("GET", "{}", "orders:read", 200), ("PUT", "{}", "orders:write", 200), ("PATCH", "{}", "orders:write", 200),
        ("DELETE", "{}", "orders:write", 204), ("POST", "{}refund/", "orders:refund", 204),
        ("GET", "/orders/export/", "orders:read", 204), ("POST", "/orders/export/", "orders:write", 204),
        # What the view set does not answer is asked for like anything else, and then is 405.
        ("PUT", "/orders/", "orders:write", 405), ("PURGE", "/orders/", "orders:write", 405),
    ],
)  # fmt: skip
def test_each_operation_asks_for_its_scope(method: str, address: str, scope: str, status: int) -> None:
    address = address.format(order())
    assert lacks(method, address) == (scope if method != "HEAD" else "")
    assert ask(method, address, scope) == status
    assert rows()[-1] == ("used", "", "TTS", status)
    others = [f"orders:{name}" for name in NAMES if f"orders:{name}" != scope]
    assert ask(method, address, *others) == 403
    if method != "DELETE":
        assert ask(method, address, "orders:*") == ask(method, address, "*") == status


def test_all_of_several_scopes() -> None:
    assert lacks("DELETE", "/orders/purge/") == "orders:write"
    given = [["orders:write"], ["orders:purge"], ["orders:write", "orders:purge"]]
    assert [ask("DELETE", "/orders/purge/", *scopes) for scopes in given] == [403, 403, 204]


def test_an_action_with_permissions_of_its_own() -> None:
    assert ask("GET", "/orders/health/") == 204


def test_without_a_resource_only_what_is_named(settings: Settings) -> None:
    serve(settings, Strict)
    address = order()
    assert ask("GET", "/orders/", "orders:read") == 200
    assert ask("POST", f"{address}refund/", "orders:refund") == 204
    for method, where in (("GET", address), ("POST", "/orders/"), ("DELETE", address), ("OPTIONS", "/orders/"),
                          ("PUT", "/orders/"), ("POST", "/orders/export/")):  # fmt: skip
        assert ask(method, where, "*") == 403
        assert rows()[-1] == ("refused", "scope", "TTS", 403)


@pytest.mark.parametrize("rule", [(), [], 7, ("orders:read", 7), {"orders:read"}, None])
@pytest.mark.parametrize("permission", [HasResourceScope, HasResourceScope("orders"), ~HasResourceScope("orders")])
def test_a_rule_that_names_nothing_opens_nothing(rule: Any, permission: Any, settings: Settings) -> None:
    serve(settings, type("Wrong", (Orders,), {"action_scopes": {"list": rule}, "permission_classes": [permission]}))
    assert ask("GET", "/orders/", "*") == ask("GET", "/orders/") == 403
    # None says that no key may.
    assert bool(found("keys.E034")) is (rule is not None)


@pytest.mark.parametrize("rules", [None, 7, ["list"], "list"])
def test_rules_that_are_none_open_nothing(rules: Any, settings: Settings) -> None:
    declared = {"action_scopes": rules, "permission_classes": [IsUser | HasResourceScope("orders")]}
    serve(settings, type("Wrong", (Orders,), declared))
    assert ask("GET", "/orders/", "*") == 403
    assert rows()[-1] == ("refused", "scope", "TTS", 403)
    assert len(found("keys.E034")) == 1


@pytest.mark.parametrize(
    ("permission", "statuses"),
    [
        # of a user, and of keys that may read, and that may write
        (IsUser | HasResourceScope("orders"), (200, 200, 403)),
        (HasResourceScope("orders") | IsUser, (200, 200, 403)),
        (IsUser & HasResourceScope("orders"), (403, 403, 403)),
        (HasAPIKey & HasResourceScope("orders"), (403, 200, 403)),
        (~HasResourceScope("orders"), (200, 403, 200)),
        (HasAPIKey & ~HasResourceScope("orders"), (403, 403, 200)),
        (~(HasResourceScope("orders") | HasScope("orders:purge")), (200, 403, 200)),
        (~~HasResourceScope("orders"), (403, 200, 403)),
    ],
)
def test_it_composes(permission: Any, statuses: tuple[int, ...], settings: Settings) -> None:
    serve(settings, type("Composed", (Orders,), {"permission_classes": [permission]}))
    person = Client()
    person.force_login(User.objects.create(username="anna"))
    asked = (
        person.get("/orders/").status_code,
        ask("GET", "/orders/", "orders:read"),
        ask("GET", "/orders/", "orders:write"),
    )
    assert asked == statuses


def test_a_scope_that_is_one_too_many_is_a_refusal_in_the_log(settings: Settings) -> None:
    permission: Any = ~(HasResourceScope("orders") | HasScope("orders:purge"))
    serve(settings, type("Without", (Orders,), {"permission_classes": [permission]}))
    assert [ask("GET", "/orders/", scope) for scope in ("orders:write", "orders:read")] == [200, 403]
    assert rows() == [("used", "", "TTS", 200), ("refused", "scope", "TTS", 403)]


def test_for_objects_too(settings: Settings) -> None:
    class OrMine(Orders):
        permission_classes = [HasResourceScope("orders") | HasScope("orders:export")]

    serve(settings, OrMine)
    address = order()
    assert ask("POST", f"{address}refund/", "orders:export") == 204
    assert ask("POST", f"{address}refund/", "orders:write") == 403


def test_what_a_caller_is_told_of_other_methods() -> None:
    # For each method, Django REST framework asks the view's permissions with a request of its own.
    key = APIKey.objects.create(name="TTS", scopes=["orders:read"])
    answer = Client(headers={"X-API-Key": str(key.key)}).options("/orders/")
    assert "actions" not in answer.json()
    APIKey.objects.update(scopes=["orders:read", "orders:write"])
    assert set(Client(headers={"X-API-Key": str(key.key)}).options("/orders/").json()["actions"]) == {"POST"}


def test_other_views_go_by_the_method(settings: Settings) -> None:
    settings.ROOT_URLCONF = (path("orders/", ByMethod.as_view()),)
    assert (lacks("GET", "/orders/"), lacks("POST", "/orders/")) == ("orders:read", "orders:write")
    assert ask("GET", "/orders/", "orders:read") == 200


class TestSchema:
    def words(self, view: Any) -> dict[tuple[str, str], str]:
        router = SimpleRouter()
        router.register("orders", view, basename="order")
        generator = SchemaGenerator(patterns=router.urls)  # type: ignore[no-untyped-call]
        paths = generator.get_schema(public=True)["paths"]  # type: ignore[no-untyped-call]
        return {
            (method, address): operation.get("description", "")
            for address, methods in paths.items()
            for method, operation in methods.items()
        }

    def test_each_operation_with_its_own_scope(self) -> None:
        words = self.words(Orders)
        asked = {
            ("get", "/orders/"): "`orders:read`", ("post", "/orders/"): "`orders:write`",
            ("get", "/orders/{id}/"): "`orders:read`", ("put", "/orders/{id}/"): "`orders:write`",
            ("patch", "/orders/{id}/"): "`orders:write`", ("delete", "/orders/{id}/"): "`orders:write`",
            ("post", "/orders/{id}/refund/"): "`orders:refund`",
            ("delete", "/orders/purge/"): "`orders:write` and `orders:purge`",
            ("get", "/orders/export/"): "`orders:read`", ("post", "/orders/export/"): "`orders:write`",
        }  # fmt: skip
        assert words.pop(("get", "/orders/health/")) == ""
        assert words == {operation: f"Scope of the API key: {scopes}." for operation, scopes in asked.items()}

    def test_beside_people(self) -> None:
        words = self.words(type("Shared", (Orders,), {"permission_classes": [IsUser | HasResourceScope("orders")]}))
        assert words["post", "/orders/{id}/refund/"] == "Scope of the API key: `orders:refund`. A user needs none."


class TestChecks:
    def test_nothing_is_wrong(self, settings: Settings) -> None:
        for check in ("keys.E009", "keys.E010", "keys.E011", "keys.E033", "keys.E034", "keys.W015"):
            assert not found(check)
        settings.ROOT_URLCONF = (path("orders/", ByMethod.as_view()),)
        assert not [*found("keys.E009"), *found("keys.E033"), *found("keys.W015")]

    def test_an_action_without_a_rule(self, settings: Settings) -> None:
        serve(settings, Strict)
        told = found("keys.E033")
        named = {message.partition("which scope '")[2].partition("'")[0] for message in told}
        assert named == {"create", "update", "partial_update", "destroy", "export", "purge"}
        assert all(f"{__name__}.Strict (/^orders/" in message for message in told)
        settings.ROOT_URLCONF = (path("orders/", ByMethod.as_view(permission_classes=[IsUser | HasResourceScope])),)
        assert len(found("keys.E033")) == 2

    @pytest.mark.parametrize("method", ["get_permissions", "permission_classes"])
    def test_a_view_that_decides_by_itself(self, method: str, settings: Settings) -> None:
        made: Any = lambda self: [AllowAny]  # noqa: E731
        serve(settings, type("Own", (Strict,), {method: property(made) if method != "get_permissions" else made}))
        assert not found("keys.E033")

    def test_rules_that_only_a_request_shows(self, settings: Settings) -> None:
        serve(settings, type("Own", (Strict,), {"action_scopes": property(lambda self: {"list": "orders:read"})}))
        assert not [*found("keys.E033"), *found("keys.E034")]
        assert (ask("GET", "/orders/", "orders:read"), ask("POST", "/orders/", "*")) == (200, 403)

    def test_a_scope_that_is_not_registered(self, settings: Settings) -> None:
        serve(settings, type("Typo", (Orders,), {"action_scopes": {"refund": "orders:refnd"}}))
        (message,) = found("keys.E009")
        assert "'orders:refnd'" in message
        assert "Did you mean orders:refund?" in message

    @pytest.mark.parametrize(("kind", "asked"), [(Orders, 1), (ReadOnlyModelViewSet, 0)])
    def test_only_scopes_that_an_operation_asks_for(self, kind: Any, asked: int, settings: Settings) -> None:
        settings.KEYS = {**settings.KEYS, "SCOPES": {"orders:read": "", "orders:refund": "", "orders:purge": ""}}
        declared = {"permission_classes": [HasResourceScope("orders")], "authentication_classes": []}
        serve(settings, type("Narrow", (kind,), declared))
        assert len(found("keys.E009")) == asked

    def test_a_resource_that_is_a_scope(self, settings: Settings) -> None:
        serve(settings, type("Whole", (Orders,), {"permission_classes": [HasResourceScope("orders:read")]}))
        assert "'orders:read:read'" in found("keys.E010")[0]

    @pytest.mark.parametrize(
        ("rules", "words"),
        [
            ({"refnd": "orders:refund"}, "names 'refnd', which is no action of the view."),
            ({7: "orders:refund"}, "names 7, which is no action of the view."),
            ({"refund": {"orders:refund"}}, "has neither a scope nor a tuple of scopes for 'refund'."),
            (["refund"], "is not a dictionary."),
            (None, "is not a dictionary."),
        ],
    )
    def test_a_rule_that_cannot_be_one(self, rules: Any, words: str, settings: Settings) -> None:
        serve(settings, type("Wrong", (Orders,), {"action_scopes": rules}))
        (message,) = found("keys.E034")
        assert f"action_scopes {words}" in message

    def test_what_is_answered_elsewhere_may_be_named(self, settings: Settings) -> None:
        settings.ROOT_URLCONF = (path("orders/", Orders.as_view({"get": "list"})),)
        assert not found("keys.E034")

    def test_other_views_may_call_something_else_so(self, settings: Settings) -> None:
        serve(settings, type("Other", (Orders,), {"action_scopes": 7, "permission_classes": [HasAPIKey]}))
        assert not found("keys.E034")
