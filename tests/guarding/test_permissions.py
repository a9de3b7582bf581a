"""Who may, by key and by scope, alone and joined by `&`, `|` and `~`; and what the log makes of it."""

from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import path as django_path
from pytest_django import Settings
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import AllowAny, IsAdminUser, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory, force_authenticate
from rest_framework.views import APIView

from keys.authentication import APIKeyAuthentication, ServicePrincipal
from keys.models import APIKey, AuditEvent
from keys.permissions import HasAPIKey, HasScope, IsUser
from tests.support.callers import get
from tests.views import DenyObject, Guarded, InternalAuthentication

pytestmark = pytest.mark.django_db

READ, WRITE = HasScope("users:read"), HasScope("tracking:write")
LACKS_READ = "This API key lacks the scope “users:read”."
FORBIDDEN = "You do not have permission to perform this action."


def key_with(*scopes: str) -> APIKey:
    return APIKey.objects.create(name="TTS", scopes=scopes)


def last_row() -> tuple[str, str, int | None]:
    event = AuditEvent.objects.exclude(method="").latest("id")
    return event.event, event.reason, event.status


class OnAnything(APIView):
    """Asks its permissions for itself and for an object."""

    authentication_classes = [APIKeyAuthentication]

    def get(self, request: Any) -> Any:
        self.check_object_permissions(request, object())
        return Guarded().get(request)


def allows(permission: Any, view: type[APIView], key: APIKey) -> bool:
    request = APIRequestFactory().get("/", headers={"X-API-Key": key.key})
    request.resolver_match = None
    return view.as_view(permission_classes=[permission])(request).status_code == 200


@pytest.mark.parametrize(
    ("scopes", "status"),
    [
        (["users:read"], 200), (["users:*"], 200), (["*"], 200), (["employees:read", "users:read"], 200), ([], 403),
        (["employees:read"], 403), (["employees:*"], 403),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/scoped/", "/on-an-object/"])
def test_a_scope_is_asked_for(path: str, scopes: list[str], status: int) -> None:
    assert get(path, key_with(*scopes)).status_code == status
    assert last_row() == (("used", "", 200) if status == 200 else ("refused", "scope", 403))


def test_the_answer_names_the_scope_that_is_missing() -> None:
    assert get("/scoped/", key_with()).json() == {"detail": LACKS_READ}
    # Django REST framework drops what the parts of a composition say.
    assert get("/either-scope/", key_with()).json() == {"detail": FORBIDDEN}


def test_nobody_has_no_scope() -> None:
    assert Guarded.as_view(permission_classes=[~READ])(APIRequestFactory().options("/")).status_code == 200


def test_a_key_without_scopes_passes_what_asks_for_none() -> None:
    assert get("/guarded/", key_with()).status_code == 200


@pytest.mark.parametrize("view", [Guarded, OnAnything])
@pytest.mark.parametrize(
    ("permission", "scopes_let_in", "scopes_kept_out"),
    [
        (READ, [["users:read"]], [[], ["tracking:write"]]),
        (READ & WRITE, [["users:read", "tracking:write"], ["*"]], [["users:read"], ["tracking:write"], []]),
        (READ | WRITE, [["users:read"], ["tracking:write"]], [["employees:read"], []]),
        (~READ, [[], ["tracking:write"]], [["users:read"], ["*"]]),
        (~~READ, [["users:read"], ["*"]], [[], ["tracking:write"]]),
        (~HasScope("users:read", "tracking:write"), [[], ["users:read"]], [["users:read", "tracking:write"]]),
        (HasAPIKey & ~READ, [[]], [["users:*"]]),
        (~(READ | WRITE), [["employees:read"]], [["users:read"], ["tracking:write"]]),
        (~READ | WRITE, [[], ["users:read", "tracking:write"]], [["users:read"]]),
        (IsAdminUser | READ, [["users:read"]], [[]]),
        (HasAPIKey, [[], ["*"]], []),
        (~HasAPIKey, [], [[], ["*"]]),
        (IsAuthenticated & READ, [["users:read"]], [[]]),
        (HasScope("users:read", "tracking:write"), [["users:read", "tracking:write"]],
        [["users:read"], ["tracking:write"]]),
    ],
)  # fmt: skip
def test_the_algebra(
    permission: Any, view: type[APIView], scopes_let_in: list[list[str]], scopes_kept_out: list[list[str]]
) -> None:
    assert [allows(permission, view, key_with(*scopes)) for scopes in scopes_let_in] == [True] * len(scopes_let_in)
    assert [allows(permission, view, key_with(*scopes)) for scopes in scopes_kept_out] == [False] * len(scopes_kept_out)


@pytest.mark.parametrize(
    ("path", "scopes", "row"),
    [
        # One half objects and the other lets in: a use.
        ("/either-scope/", ["users:read"], ("used", "", 200)),
        ("/either-scope/", ["employees:read"], ("used", "", 200)),
        ("/either-scope/", [], ("refused", "scope", 403)),
        ("/on-an-object/", ["users:read"], ("used", "", 200)),
        ("/on-an-object/", [], ("refused", "scope", 403)),
        ("/not-scope/", [], ("used", "", 200)),
        ("/not-scope-on-an-object/", [], ("used", "", 200)),
        # It has a scope that it must not have.
        ("/not-scope/", ["users:read"], ("refused", "scope", 403)),
        ("/not-scope-on-an-object/", ["users:read"], ("refused", "scope", 403)),
        # The view itself says no.
        ("/inner-refusal/", ["users:read"], ("used", "", 403)),
        ("/guarded/?status=403", [], ("used", "", 403)),
        ("/not-scope/?status=403", [], ("used", "", 403)),
    ],
)
def test_what_the_log_says(path: str, scopes: list[str], row: tuple[str, str, int]) -> None:
    assert get(path, key_with(*scopes)).status_code == row[2]
    assert last_row() == row


@pytest.mark.parametrize("permission", [HasAPIKey, READ, READ | WRITE])
def test_a_user_is_no_key(permission: Any) -> None:
    admin = User.objects.create_superuser("root")
    request = APIRequestFactory().get("/")
    force_authenticate(request, admin)
    assert Guarded.as_view(permission_classes=[permission])(request).status_code == 403


class ReadOrFromHome(HasScope("users:read")):  # type: ignore[misc]
    """A project's own: the scope, or something else."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return "home" in request.query_params or super().has_permission(request, view)


class ReadNothing(HasScope("users:read")):  # type: ignore[misc]
    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        return False


AT_HOME: Any = ReadOrFromHome
NOTHING: Any = ReadNothing


@pytest.mark.parametrize(
    ("permission", "scopes", "query", "status"),
    [(AT_HOME, [], "", 403), (AT_HOME, [], "?home", 200),
     (~AT_HOME, [], "", 200), (~AT_HOME, [], "?home", 403), (~AT_HOME, ["users:read"], "", 403),
     (~~AT_HOME, [], "?home", 200), (NOTHING, ["users:read"], "", 403), (~NOTHING, [], "", 200),
     (~NOTHING, ["users:read"], "", 403)],
)  # fmt: skip
def test_what_a_subclass_decides_is_turned_round_as_a_whole(
    permission: Any, scopes: list[str], query: str, status: int, settings: Settings
) -> None:
    settings.ROOT_URLCONF = (django_path("", OnAnything.as_view(permission_classes=[permission])),)
    assert Client(headers={"X-API-Key": key_with(*scopes).key}).get(f"/{query}").status_code == status


def test_nobody_is_no_key() -> None:
    for permission in (HasAPIKey, READ, READ & WRITE, DenyObject & READ):
        assert Guarded.as_view(permission_classes=[permission])(APIRequestFactory().get("/")).status_code == 401
    assert Guarded.as_view(permission_classes=[AllowAny])(APIRequestFactory().options("/")).status_code == 200


def test_a_scope_has_to_be_named() -> None:
    with pytest.raises(TypeError, match="at least one scope"):
        HasScope()


def test_one_permission_serves_many_requests_at_once() -> None:
    # What one request was refused for must not be said to another.
    assert get("/scoped/", key_with()).json() == {"detail": LACKS_READ}
    assert get("/scoped/", key_with("users:read")).status_code == 200
    assert getattr(HasScope("users:read")(), "message", None) is None


class TestUsersBesideServices:
    @pytest.fixture(params=["/users/", "/object/"])
    def path(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.mark.parametrize(
        ("permission", "let_in"),
        [
            (IsUser, {"user"}),
            (~IsUser, {"key", "key with the scope", "environment", "nobody"}),
            (IsUser | READ, {"user", "key with the scope"}),
            (READ | IsUser, {"user", "key with the scope"}),
            (IsUser | HasAPIKey, {"user", "key", "key with the scope", "environment"}),
            (IsUser & READ, set()),
            (IsAuthenticated & ~IsUser, {"key", "key with the scope", "environment"}),
        ],
    )
    def test_who_is_let_in(
        self, permission: Any, let_in: set[str], path: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Internal(InternalAuthentication):
            answers_missing = False

        class Everybody(APIView):
            authentication_classes = [SessionAuthentication, Internal, APIKeyAuthentication]

            def get(self, request: Any) -> Any:
                if path == "/object/":
                    self.check_object_permissions(request, object())
                return Response({})

        settings.ROOT_URLCONF = (django_path(path[1:], Everybody.as_view(permission_classes=[permission])),)
        monkeypatch.setenv("TEST_SHARED_KEY", "s" * 32)
        person = Client()
        person.force_login(User.objects.create(username="ada"))
        callers = {
            "user": person,
            "nobody": Client(),
            "key": Client(headers={"X-API-Key": key_with().key}),
            "key with the scope": Client(headers={"X-API-Key": key_with("users:read").key}),
            "environment": Client(headers={"X-Internal-Api-Key": "s" * 32}),
        }
        assert {name for name, caller in callers.items() if caller.get(path).status_code == 200} == let_in

    def test_a_key_of_another_kind_is_no_user(self) -> None:
        # A keyring of the project may know holders of its own.
        request = Request(APIRequestFactory().get("/"))
        holder: Any = SimpleNamespace(name="ada", scopes=[], prefix="")
        request.user, request.auth = ServicePrincipal(holder), holder  # type: ignore[assignment]
        assert not IsUser().has_permission(request, None)

    def test_a_project_without_anonymous_users(self, settings: Settings) -> None:
        settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "UNAUTHENTICATED_USER": None}
        request = Request(APIRequestFactory().get("/"))
        assert not IsUser().has_permission(request, None)
