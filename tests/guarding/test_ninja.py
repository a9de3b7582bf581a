"""The guard in Django Ninja: the same answers, and the same rows in the audit log."""

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from ninja import NinjaAPI
from ninja.security import django_auth
from pytest_django import Settings

from keys.keyrings import EnvironmentKeyring
from keys.models import APIKey, AuditEvent
from keys.ninja import APIKeyAuth
from keys.testing import APIKeyClient
from keys.verification import Guard
from tests.support.commands import found
from tests.support.witnesses import uses_seen_from_outside

WRONG = "0123456789abcdef0123456789abcdef01234567"
INTERNAL = "a-key-from-the-environment-of-32-characters"

api = NinjaAPI()
internal = Guard(header="X-Internal-Api-Key", keyword=None, keyrings=(EnvironmentKeyring("TEST_SHARED_KEY"),))


@api.get("/any", auth=APIKeyAuth())
def any_key(request: HttpRequest) -> dict[str, Any]:
    return {"name": request.auth.name}  # type: ignore[attr-defined]


@api.get("/scoped", auth=APIKeyAuth("users:read"))
def scoped(request: HttpRequest) -> dict[str, Any]:
    return {}


@api.get("/internal", auth=[APIKeyAuth(guard=internal), APIKeyAuth()])
def either(request: HttpRequest) -> dict[str, Any]:
    return {"name": request.auth.name}  # type: ignore[attr-defined]


@api.get("/session", auth=[django_auth, APIKeyAuth()])
def after_session(request: HttpRequest) -> dict[str, Any]:
    return {}


@api.get("/witness", auth=APIKeyAuth())
def witness(request: HttpRequest) -> dict[str, Any]:
    return {"seen": uses_seen_from_outside(), "in_transaction": connection.in_atomic_block}


@api.post("/witness", auth=None)
def open_to_all(request: HttpRequest) -> dict[str, Any]:
    return {}


@api.get("/breaks", auth=APIKeyAuth())
def breaks(request: HttpRequest) -> dict[str, Any]:
    raise RuntimeError("the view broke")


asynchronous = NinjaAPI(urls_namespace="async")


@asynchronous.get("/any", auth=APIKeyAuth("users:read"))
async def any_key_async(request: HttpRequest) -> dict[str, Any]:
    return {"name": request.auth.name}  # type: ignore[attr-defined]


urlpatterns = [path("ninja/", api.urls), path("async/", asynchronous.urls)]


@pytest.fixture(autouse=True)
def urls(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__


def rows() -> list[tuple[str, str, int | None]]:
    return list(AuditEvent.objects.filter(event__in=["used", "refused"]).values_list("event", "reason", "status"))


@pytest.mark.django_db
class TestAnswers:
    def test_a_good_key_is_let_in_and_recorded_with_its_outcome(self) -> None:
        response = APIKeyClient(name="TTS").get("/ninja/any")
        assert (response.status_code, response.json()) == (200, {"name": "TTS"})
        assert rows() == [("used", "", 200)]

    def test_without_a_key_it_is_ninjas_own_401(self) -> None:
        response = Client().get("/ninja/any")
        assert (response.status_code, response["WWW-Authenticate"]) == (401, 'Api-Key realm="api"')
        assert (response["Cache-Control"], response["Vary"]) == ("no-store", "X-API-Key, Authorization")
        assert rows() == []

    def test_an_operation_beside_it_is_left_alone(self) -> None:
        response = Client().post("/ninja/witness")
        assert response.status_code == 200
        assert "Cache-Control" not in response
        assert Client().delete("/ninja/witness").status_code == 405

    @pytest.mark.parametrize(
        ("headers", "status", "reason"),
        [
            ({"X-API-Key": WRONG}, 401, "unknown"),
            ({"Authorization": f"Api-Key {WRONG}"}, 401, "unknown"),
            ({"X-API-Key": "x" * 129}, 401, "malformed"),
            ({"X-API-Key": WRONG, "Authorization": "Api-Key other"}, 400, "conflict"),
        ],
    )
    def test_a_bad_key_is_refused_as_everywhere(self, headers: dict[str, str], status: int, reason: str) -> None:
        response = Client().get("/ninja/any", headers=headers)
        assert response.status_code == status
        assert response.headers.get("WWW-Authenticate") == ('Api-Key realm="api"' if status == 401 else None)
        assert status == 400 or response.json() == {"detail": "Invalid API key."}
        assert rows() == [("refused", reason, status)]

    def test_a_scope_that_is_missing_is_named(self) -> None:
        response = APIKeyClient(scopes=[]).get("/ninja/scoped")
        assert (response.status_code, "users:read" in response.json()["detail"]) == (403, True)
        assert rows() == [("refused", "scope", 403)]
        assert APIKeyClient(scopes=["users:*"]).get("/ninja/scoped").status_code == 200

    def test_no_cache_keeps_the_answer(self) -> None:
        response = APIKeyClient().get("/ninja/any")
        assert response["Cache-Control"] == "no-store"
        assert "X-API-Key" in response["Vary"]

    def test_one_guard_after_another(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEST_SHARED_KEY", INTERNAL)
        response = Client().get("/ninja/internal", headers={"X-Internal-Api-Key": INTERNAL})
        assert response.json() == {"name": "env:TEST_SHARED_KEY"}
        assert APIKeyClient(name="TTS").get("/ninja/internal").json() == {"name": "TTS"}

    def test_a_view_of_another_kind_is_not_taken_for_ninjas(self, settings: Settings) -> None:
        def make_view() -> Any:
            def view(request: HttpRequest) -> HttpResponse:
                return HttpResponse("later" if request.GET else repr(later))

            settings.ROOT_URLCONF = (path("plain/", view),)
            response = Client().get("/plain/?early=1")  # its variable `later` is still empty
            later = None
            return response

        assert make_view().content == b"later"

    def test_the_documentation_names_the_header(self) -> None:
        schemes = Client().get("/ninja/openapi.json").json()["components"]["securitySchemes"]
        assert ("header", "apiKey") in {(scheme["in"], scheme["type"]) for scheme in schemes.values()}

    @pytest.mark.parametrize(
        ("guard", "header", "words"),
        [
            (Guard(), "X-API-Key", "Or Authorization: Api-Key <key>."),
            (Guard(keyword=None), "X-API-Key", None),
            (
                Guard(header=("X-A", "X-B"), keyword=("Token", "Basic")), "X-A",
                "Or X-B, or Authorization: Token <key>, or Authorization: Basic, with the key as the password.",
            ),
        ],
    )  # fmt: skip
    def test_the_documentation_tells_of_each_place(
        self, settings: Settings, guard: Guard, header: str, words: str | None
    ) -> None:
        documented = NinjaAPI(urls_namespace="documented")
        documented.get("/any", auth=APIKeyAuth(guard=guard))(open_to_all)
        settings.ROOT_URLCONF = (path("ninja/", documented.urls),)
        (scheme,) = Client().get("/ninja/openapi.json").json()["components"]["securitySchemes"].values()
        assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", header)
        assert scheme.get("description") == words

    def test_a_refusal_names_what_each_guard_reads(self, settings: Settings) -> None:
        both = NinjaAPI(urls_namespace="both")
        auth = [APIKeyAuth(guard=Guard(header="X-B", keyword=("Api-Key", "Token"))), APIKeyAuth()]
        both.get("/any", auth=auth)(open_to_all)
        settings.ROOT_URLCONF = (path("ninja/", both.urls),)
        assert Client().get("/ninja/any")["WWW-Authenticate"] == 'Api-Key realm="api", Token realm="api"'


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("address", "scopes", "row"),
    [
        ("/ninja/any", [], ("used", "", 200)),
        ("/ninja/breaks", [], ("used", "", 500)),
        ("/ninja/scoped", [], ("refused", "scope", 403)),
    ],
)
def test_the_row_is_there_whatever_becomes_of_the_views_transaction(
    address: str, scopes: list[str], row: tuple[str, str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    client = APIKeyClient(scopes=scopes)
    client.raise_request_exception = False
    assert client.get(address).status_code == row[2]
    assert rows() == [row]


@pytest.mark.django_db(transaction=True)
def test_the_use_is_committed_before_the_view_and_its_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    assert APIKeyClient().get("/ninja/witness").json() == {"seen": 1, "in_transaction": True}


@pytest.mark.django_db
def test_async_operations() -> None:
    key = APIKey.objects.create(name="TTS", scopes=["users:read"])
    get = async_to_sync(AsyncClient().get)
    response = get("/async/any", headers={"X-API-Key": str(key.key)})
    assert (response.status_code, response.json()) == (200, {"name": "TTS"})
    refused = get("/async/any", headers={"X-API-Key": WRONG})
    assert (refused.status_code, refused["WWW-Authenticate"]) == (401, 'Api-Key realm="api"')
    assert rows() == [("refused", "unknown", 401), ("used", "", 200)]


class TestChecks:
    """The system checks see what Ninja's operations ask for."""

    @pytest.fixture(autouse=True)
    def on(self, settings: Settings) -> None:
        settings.KEYS = {"SCOPES": {"users:read": "Read the details of users."}}

    def test_a_scope_that_is_not_registered(self, settings: Settings) -> None:
        assert not found("keys.E009")
        settings.KEYS = {"SCOPES": {"users:write": "Write."}}
        assert [message for message in found("keys.E009") if f"{__name__}.scoped (/ninja/scoped)" in message]
        assert [message for message in found("keys.E009") if f"{__name__}.any_key_async (/async/any)" in message]

    def test_a_scope_that_is_none(self, settings: Settings) -> None:
        wrong = NinjaAPI(urls_namespace="wrong")
        wrong.get("/wrong", auth=[APIKeyAuth("users")])(open_to_all)
        settings.ROOT_URLCONF = (path("wrong/", wrong.urls),)
        (message,) = found("keys.E010")
        assert "'users'" in message

    def test_the_middleware_is_missing(self, settings: Settings) -> None:
        assert not found("keys.W001")
        settings.MIDDLEWARE = []
        (message,) = found("keys.W001")
        assert "guard 7 addresses" in message

    def test_a_key_behind_another_authenticator(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
        (message,) = found("keys.W003")
        assert f"{__name__}.after_session" in message

    def test_the_variable_of_a_guard(self, monkeypatch: pytest.MonkeyPatch) -> None:
        (message,) = found("keys.W005")
        assert "TEST_SHARED_KEY" in message
        monkeypatch.setenv("TEST_SHARED_KEY", "short")
        assert len(found("keys.E013")) == 1

    @pytest.mark.django_db
    def test_a_rate_that_no_view_enforces(self) -> None:
        APIKey.objects.create(name="Busy", rate="100/min")
        (message,) = found("keys.W010", databases=["default"])
        assert f"{__name__}.any_key (/ninja/any)" in message
