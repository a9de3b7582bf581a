"""`leaves_unknown`: a key that no keyring knows is left to others, and refused only if nobody accepts the request."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from ninja import NinjaAPI
from pytest_django import Settings
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from keys.decorators import api_key_required
from keys.models import APIKey
from keys.ninja import APIKeyAuth
from keys.throttling import APIKeyRateThrottle
from keys.verification import Guard, holder_of, is_from_person
from tests.support.callers import UNKNOWN
from tests.support.commands import serve
from tests.support.leaving import (
    INTERNAL,
    LEAVES,
    REFUSED,
    SENDERS,
    STRANGER,
    Anybody,
    Counted,
    Enveloped,
    InX,
    Nobody,
    OfEnvironment,
    OfEnvironmentToTheEnd,
    OursCounted,
    Stern,
    async_function,
    function,
    send,
)
from tests.support.log import rows
from tests.support.two_systems import Both, Ours, by_authtoken, guarded_by, their_token
from tests.support.witnesses import Witness

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def counting() -> None:
    Counted.looked_up.clear()


class TestDjangoRestFramework:
    @SENDERS
    def test_who_follows_accepts(self, atomic_requests: bool, settings: Settings, sent: Callable[..., Any]) -> None:
        serve(settings, guarded_by(Ours, Anybody))
        assert sent() == (200, {"user": UNKNOWN, "by": "str"})
        assert rows() == []

    @SENDERS
    @pytest.mark.parametrize("before", [[], [SessionAuthentication]], ids=["before the view", "in its transaction"])
    def test_nobody_accepts(
        self, atomic_requests: bool, settings: Settings, sent: Callable[..., Any], before: list[Any]
    ) -> None:
        serve(settings, guarded_by(*before, Ours, Nobody))
        status = 403 if before else 401
        assert sent() == (status, {"detail": "Not by me."})
        assert rows() == [("refused", "unknown", "", status)]

    @pytest.mark.parametrize("key", ["", "\x7f", "x" * 129])
    def test_what_cannot_be_a_key_is_left_too(self, settings: Settings, key: str) -> None:
        serve(settings, guarded_by(Ours), guarded_by(OursCounted, Anybody))
        assert send("/0/", key)[0] == 401
        assert [(event, reason) for event, reason, _, _ in rows()] == [("refused", "malformed")]
        assert send("/1/", key)[0] == (200 if key else 401)
        assert Counted.looked_up == []

    def test_a_view_that_everybody_may_call(self, settings: Settings) -> None:
        serve(settings, guarded_by(Ours, permission_classes=[AllowAny]))
        assert (send()[0], rows()) == (200, [])

    @pytest.mark.parametrize("status", [200, 404])
    @pytest.mark.parametrize("last", [[], [Nobody], [Stern]], ids=["missing", "failed", "an error of its own"])
    def test_an_exception_handler_gives_another_answer(
        self, atomic_requests: bool, settings: Settings, status: int, last: list[Any]
    ) -> None:
        serve(settings, Enveloped.as_view(authentication_classes=[Ours, *last], status=status))
        assert send() == (status, {"status": 401})
        assert rows() == [("refused", "unknown", "", status)]

    def test_a_401_of_the_views_own_is_no_refusal_of_a_key_that_another_accepted(self, settings: Settings) -> None:
        class Upstream(Both):
            def get(self, request: Request) -> Response:
                if "raises" in request.query_params:
                    raise AuthenticationFailed("The bank does not know us.")
                return Response({}, status=401)

        serve(settings, Upstream.as_view(authentication_classes=[Ours, Anybody]))
        assert [send("/0/")[0], send("/0/?raises")[0]] == [401, 401]
        assert rows() == []

    @SENDERS
    def test_a_known_key_is_answered_at_once(self, settings: Settings, key: APIKey, sent: Callable[..., Any]) -> None:
        serve(settings, guarded_by(Ours, Anybody))
        assert sent("/0/", key.key)[0] == 200
        key.deactivate()
        assert sent("/0/", key.key) == (401, REFUSED)
        assert rows() == [("used", "", "TTS", 200), ("refused", "inactive", "TTS", 401)]

    def test_a_header_that_was_sent_twice(self, settings: Settings, key: APIKey) -> None:
        serve(settings, guarded_by(Ours, Anybody))
        assert send("/0/", f"{UNKNOWN},{'e' * 40}")[0] == 200
        assert rows() == []
        assert send("/0/", f"{UNKNOWN}, {key.key}") == (400, {"detail": "More than one API key was presented."})
        assert rows() == [("refused", "conflict", "", 400)]

    def test_no_more_than_a_few_keys_in_conflict_are_looked_up(self, settings: Settings) -> None:
        serve(settings, guarded_by(OursCounted))
        assert send("/0/", ",".join(map(str, range(60))))[0] == 401
        assert len(Counted.looked_up) <= 9


class TestSeveralGuards:
    def test_that_leave_write_one_row(self, settings: Settings) -> None:
        serve(settings, guarded_by(Ours, OursCounted, InX))
        assert send("/0/", UNKNOWN, **{"X-Other-Key": "e" * 40})[0] == 401
        assert rows() == STRANGER

    @pytest.mark.parametrize(("key", "status"), [(INTERNAL, 403), (UNKNOWN, 401)])
    def test_the_one_that_does_not_has_the_row(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, key: str, status: int
    ) -> None:
        monkeypatch.setenv("TEST_LEAVING", INTERNAL)
        serve(settings, guarded_by(Ours, OfEnvironmentToTheEnd))
        assert send("/0/", key)[0] == status
        known = ("refused", "scope", "env:TEST_LEAVING", 403)
        assert rows() == [known if key == INTERNAL else STRANGER[0]]

    def test_a_denial_by_the_second_is_on_record_whatever_the_answer(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TEST_LEAVING", INTERNAL)
        serve(settings, Enveloped.as_view(authentication_classes=[Ours, OfEnvironmentToTheEnd], status=404))
        assert send("/0/", INTERNAL) == (404, {"status": 403})
        assert rows() == [("refused", "scope", "env:TEST_LEAVING", 404)]

    @pytest.mark.django_db(transaction=True)
    def test_the_second_is_asked_before_the_view_too(
        self, settings: Settings, key: APIKey, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
        serve(settings, Witness.as_view(authentication_classes=[InX, Ours]))
        found = send("/0/", str(key.key), **{"X-Other-Key": UNKNOWN})
        assert found == (200, {"seen": 1, "in_transaction": True})

    def test_a_key_that_the_second_knows(self, settings: Settings, key: APIKey) -> None:
        serve(settings, guarded_by(InX, Ours))
        assert send("/0/", str(key.key), **{"X-Other-Key": UNKNOWN})[0] == 200
        assert rows() == [("used", "", "TTS", 200)]


class TestKeysOfTheEnvironment:
    @pytest.mark.parametrize("value", ["", INTERNAL])
    def test_others_follow(self, settings: Settings, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
        monkeypatch.setenv("TEST_LEAVING", value)
        serve(settings, guarded_by(OfEnvironment, Anybody, SessionAuthentication), guarded_by(OfEnvironment))
        client = Client()
        client.force_login(User.objects.create(username="anna"))
        assert client.get("/0/").json()["user"] == "anna"  # nothing is presented
        assert send("/0/")[0] == 200
        assert rows() == []
        assert (send("/1/")[0], rows()) == (401, STRANGER)
        assert Client().get("/1/").status_code == 401
        assert rows() == STRANGER


@pytest.mark.parametrize("make", [function, async_function])
class TestPlainViews:
    @SENDERS
    def test_nothing_follows(
        self, atomic_requests: bool, settings: Settings, make: Any, sent: Callable[..., Any]
    ) -> None:
        if atomic_requests and make is async_function:
            pytest.skip("Django allows no transaction around them.")
        serve(settings, make(api_key_required(guard=LEAVES)))
        assert sent() == (401, REFUSED)
        assert rows() == STRANGER

    def test_a_user_follows(self, settings: Settings, make: Any) -> None:
        serve(settings, make(api_key_required(guard=LEAVES, or_user=True)))
        browser = Client(enforce_csrf_checks=True)
        browser.force_login(User.objects.create(username="anna"))
        headers = {"X-API-Key": UNKNOWN}
        assert browser.get("/0/", headers=headers).json() == {"user": "anna"}
        assert browser.post("/0/", headers=headers).status_code == 403
        assert rows() == []
        assert send() == (401, REFUSED)
        assert rows() == STRANGER

    def test_nothing_is_presented(self, settings: Settings, make: Any) -> None:
        asks = Guard(leaves_unknown=True, answers_missing=True, refused_detail="Who are you?")
        serve(settings, make(api_key_required(guard=LEAVES)), make(api_key_required(guard=asks)))
        assert Client().get("/0/").json() == {"detail": "Authentication credentials were not provided."}
        assert Client().get("/1/").json() == {"detail": "Who are you?"}
        assert rows() == []


def theirs(request: HttpRequest) -> str | None:
    return request.headers.get("X-Theirs")


def reads_user(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Return a middleware that asks who is logged in."""

    def respond(request: HttpRequest) -> Any:
        assert request.user.is_authenticated
        return get_response(request)

    return respond


class TestNinja:
    @pytest.fixture(autouse=True)
    def urls(self, settings: Settings) -> None:
        api, asynchronous = NinjaAPI(urls_namespace="leaving"), NinjaAPI(urls_namespace="leaving-async")

        @api.get("/", auth=[APIKeyAuth(guard=LEAVES), theirs])
        def view(request: HttpRequest) -> dict[str, str]:
            return {"auth": str(request.auth)}  # type: ignore[attr-defined]

        @api.get("/own-401", auth=[APIKeyAuth(guard=LEAVES), theirs])
        def refuses(request: HttpRequest) -> HttpResponse:
            return HttpResponse("{}", "application/json", 401)

        @asynchronous.get("/", auth=[APIKeyAuth(guard=LEAVES), theirs])
        async def view_async(request: HttpRequest) -> dict[str, str]:
            return {"auth": str(request.auth)}  # type: ignore[attr-defined]

        settings.ROOT_URLCONF = (path("sync/", api.urls), path("async/", asynchronous.urls))

    def test_who_follows_accepts(self, atomic_requests: bool) -> None:
        assert send("/sync/", **{"X-Theirs": "anna"}) == (200, {"auth": "anna"})
        assert send("/sync/own-401", **{"X-Theirs": "anna"})[0] == 401
        assert rows() == []

    @pytest.mark.parametrize("reader", [[], [f"{__name__}.reads_user"]], ids=["unread", "read by a middleware"])
    def test_a_session_that_nobody_asked_for_accepts_nothing(self, settings: Settings, reader: list[str]) -> None:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, *reader]
        browser = Client(headers={"X-API-Key": UNKNOWN})
        browser.force_login(User.objects.create(username="anna"))
        assert (browser.get("/sync/").status_code, rows()) == (401, STRANGER)

    @SENDERS
    @pytest.mark.parametrize("address", ["/sync/", "/async/"])
    def test_nobody_accepts(self, address: str, sent: Callable[..., Any]) -> None:
        assert sent(address)[0] == 401
        assert rows() == STRANGER

    def test_a_known_key(self, key: APIKey) -> None:
        assert send("/sync/", str(key.key)) == (200, {"auth": str(key)})
        assert rows() == [("used", "", "TTS", 200)]


def test_what_the_old_system_accepted_is_no_key(settings: Settings) -> None:
    """Not for the log, not for throttles, nor for whoever asks for a person."""
    asked: list[Any] = []

    class Asks(Both):
        def get(self, request: Request) -> Response:
            bucket = APIKeyRateThrottle().get_cache_key(request, self)
            asked.extend([holder_of(request), is_from_person(request), bucket])
            return Response({})

    serve(settings, Asks.as_view(authentication_classes=[Ours, TokenAuthentication]))
    token = their_token(by_authtoken, "good")
    assert Client().get("/0/", headers={"Authorization": f"Token {token}"}).status_code == 200
    assert asked == [None, True, None]
