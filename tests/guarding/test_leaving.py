"""`leaves_unknown`: a key that no keyring knows is left to others, and refused only if nobody accepts the request."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import path
from ninja import NinjaAPI
from pytest_django import Settings
from rest_framework.authentication import BaseAuthentication, SessionAuthentication, TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotFound
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import exception_handler

from keys import signals
from keys.audit.floods import WHOLE_ROWS
from keys.authentication import EnvironmentKeyAuthentication, KeyringAuthentication
from keys.decorators import api_key_required
from keys.keyrings import DatabaseKeyring, KeyStoreError
from keys.models import APIKey, AuditEvent
from keys.ninja import APIKeyAuth
from keys.throttling import APIKeyRateThrottle
from keys.verification import Guard, holder_of, is_from_person
from tests.support.callers import UNAVAILABLE, UNKNOWN
from tests.support.commands import serve
from tests.support.keys import make_key
from tests.support.log import rows
from tests.support.tables import renamed
from tests.support.two_systems import Both, Ours, by_authtoken, guarded_by, their_token

pytestmark = pytest.mark.django_db

REFUSED = {"detail": "Invalid API key."}
STRANGER = [("refused", "unknown", "", 401)]
INTERNAL = "a-key-from-the-environment-of-32-characters"
LEAVES = Guard(leaves_unknown=True)

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Counted(DatabaseKeyring):
    """Counts how often a token is looked up."""

    looked_up: list[str] = []

    def find(self, token: str) -> APIKey | None:
        self.looked_up.append(token)
        return super().find(token)


class Away(DatabaseKeyring):
    def find(self, token: str) -> APIKey | None:
        raise KeyStoreError("It cannot be reached.")


class OursCounted(KeyringAuthentication):
    keyrings = (Counted(),)
    leaves_unknown = True


class OursAway(KeyringAuthentication):
    keyrings = (Away(),)
    leaves_unknown = True


class InX(KeyringAuthentication):
    header = "X-Other-Key"
    keyrings = (DatabaseKeyring(),)
    leaves_unknown = True


class OfEnvironment(EnvironmentKeyAuthentication):
    variables = ("TEST_LEAVING",)
    leaves_unknown = True


class OfEnvironmentToTheEnd(EnvironmentKeyAuthentication):
    variables = ("TEST_LEAVING",)
    answers_missing = False


class Anybody(BaseAuthentication):
    """Accepts whatever stands in the header."""

    def authenticate(self, request: Request) -> Any:
        token = request.headers.get("X-API-Key")
        return (User(username=token), "theirs") if token else None

    def authenticate_header(self, request: Request) -> str:
        return "Anybody"


class Nobody(BaseAuthentication):
    def authenticate(self, request: Request) -> Any:
        raise AuthenticationFailed("Not by me.")

    def authenticate_header(self, request: Request) -> str:
        return "Nobody"


@pytest.fixture(autouse=True)
def counting() -> None:
    Counted.looked_up.clear()


def send(address: str = "/0/", key: str = UNKNOWN, **more: Any) -> tuple[int, dict[str, Any]]:
    response = Client(raise_request_exception=False).get(address, headers={"X-API-Key": key, **more})
    return response.status_code, response.json()


def send_async(address: str = "/0/", key: str = UNKNOWN) -> tuple[int, dict[str, Any]]:
    response = async_to_sync(AsyncClient(raise_request_exception=False).get)(address, headers={"X-API-Key": key})
    return response.status_code, response.json()


SENDERS = pytest.mark.parametrize("sent", [send, send_async], ids=["wsgi", "asgi"])


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
    @pytest.mark.parametrize("last", [[], [Nobody]], ids=["missing", "failed"])
    def test_an_exception_handler_gives_another_answer(
        self, atomic_requests: bool, settings: Settings, status: int, last: list[Any]
    ) -> None:
        class Enveloped(Both):
            def get_exception_handler(self) -> Any:
                def handle(error: Exception, context: Any) -> Response:
                    found: Any = exception_handler(error, context)
                    return Response({"status": found.status_code}, status=status)

                return handle

        serve(settings, Enveloped.as_view(authentication_classes=[Ours, *last]))
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
        assert len(Counted.looked_up) <= 5


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


def function(guard: Decorator) -> Any:
    @guard
    def view(request: HttpRequest) -> JsonResponse:
        return JsonResponse({"user": str(request.user)})

    return view


def async_function(guard: Decorator) -> Any:
    @guard
    async def view(request: HttpRequest) -> JsonResponse:
        return JsonResponse({"user": str(request.user)})

    return view


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

    @SENDERS
    @pytest.mark.parametrize("address", ["/sync/", "/async/"])
    def test_nobody_accepts(self, address: str, sent: Callable[..., Any]) -> None:
        assert sent(address)[0] == 401
        assert rows() == STRANGER

    def test_a_known_key(self, key: APIKey) -> None:
        assert send("/sync/", str(key.key)) == (200, {"auth": str(key)})
        assert rows() == [("used", "", "TTS", 200)]


class TestTheLog:
    pytestmark = pytest.mark.django_db(transaction=True)

    @contextmanager
    def without_log(self) -> Iterator[None]:
        with renamed(AuditEvent._meta.db_table):
            yield

    @SENDERS
    def test_that_is_away_is_missed_where_a_row_is_owed(
        self, atomic_requests: bool, settings: Settings, sent: Callable[..., Any]
    ) -> None:
        views = [guarded_by(Ours, Nobody), function(api_key_required(guard=LEAVES)), guarded_by(Ours, Anybody)]
        serve(settings, *views, guarded_by(Nobody, Ours))
        with self.without_log():
            assert [sent(f"/{number}/") for number in (0, 1, 3)] == [(503, UNAVAILABLE)] * 3
            assert sent("/2/")[0] == 200
            settings.KEYS = {"AUDIT_FAIL_OPEN": True}
            assert [sent(f"/{number}/")[0] for number in range(4)] == [401, 401, 200, 401]

    def test_that_is_away_without_the_middleware(self, settings: Settings) -> None:
        settings.MIDDLEWARE = [each for each in settings.MIDDLEWARE if not each.startswith("keys.")]
        serve(settings, guarded_by(Ours, Nobody), function(api_key_required(guard=LEAVES)), guarded_by(Ours, Anybody))
        with self.without_log():
            assert [send("/0/"), send("/1/")] == [(503, UNAVAILABLE)] * 2
            assert send("/2/")[0] == 200

    def test_keys_that_cannot_be_looked_up(self, settings: Settings) -> None:
        serve(settings, guarded_by(OursAway, Anybody), guarded_by(Nobody, OursAway))
        assert [send("/0/"), send("/1/")] == [(503, UNAVAILABLE)] * 2

    def test_counts_strangers(self, settings: Settings) -> None:
        serve(settings, guarded_by(Ours, Nobody))
        for number in range(WHOLE_ROWS + 3):
            assert send("/0/", f"{number:040}")[0] == 401
        assert sorted(AuditEvent.objects.values_list("count", flat=True)) == [1] * WHOLE_ROWS + [3]

    def test_and_who_listens_are_told_once(self, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
        heard: list[Any] = []

        def hear(key: Any, row: Any, **more: Any) -> None:
            heard.append((key, row["reason"], row["status"]))

        serve(settings, guarded_by(Ours, Nobody), guarded_by(Ours, Anybody))
        signals.key_refused.connect(hear)
        try:
            assert [send("/0/")[0], send("/1/")[0]] == [401, 200]
        finally:
            signals.key_refused.disconnect(hear)
        assert heard == [(None, "unknown", 401)]
        lines = [record.getMessage() for record in caplog.records if record.name == "api_keys"]
        assert lines == ["Invalid API key attempt from 127.0.0.1"]

    def test_never_holds_what_was_presented(self, settings: Settings) -> None:
        serve(settings, guarded_by(Ours, Nobody))
        settings.ROOT_URLCONF = (path("<token>/", lambda request, token: guarded_by(Ours, Nobody)(request)),)
        send(f"/{UNKNOWN}/", UNKNOWN, **{"User-Agent": UNKNOWN})
        assert UNKNOWN not in str(AuditEvent.objects.values_list())


class TestWithoutTheMiddleware:
    @pytest.fixture(autouse=True)
    def no_middleware(self, settings: Settings) -> None:
        settings.MIDDLEWARE = [each for each in settings.MIDDLEWARE if not each.startswith("keys.")]

    def test_the_view_tells(self, settings: Settings) -> None:
        serve(settings, guarded_by(Ours, Nobody), guarded_by(Ours, Anybody), function(api_key_required(guard=LEAVES)))
        assert [send("/0/")[0], send("/1/")[0]] == [401, 200]
        assert rows() == STRANGER
        assert (send("/2/"), rows()) == ((401, REFUSED), STRANGER * 2)


class TestTheLookUp:
    """A token that is unknown is looked up once."""

    @pytest.mark.parametrize("before", [[], [SessionAuthentication]])
    @pytest.mark.parametrize("last", [Nobody, Anybody])
    def test_of_a_view_that_shows_its_guard(
        self, atomic_requests: bool, settings: Settings, before: list[Any], last: Any
    ) -> None:
        serve(settings, guarded_by(*before, OursCounted, last))
        send()
        assert Counted.looked_up == [UNKNOWN]

    @pytest.mark.django_db(transaction=True)
    def test_of_a_view_that_is_known_by_its_requests(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
        inner = guarded_by(OursCounted, Anybody)

        def hides(request: HttpRequest) -> Any:
            return inner(request) if "asks" in request.GET else HttpResponse(status=401)

        serve(settings, hides)
        assert send("/0/?asks", str(make_key(scopes=["users:read"]).key))[0] == 200
        Counted.looked_up.clear()
        AuditEvent.objects.all().delete()
        assert send("/0/?asks")[0] == 200
        assert Counted.looked_up == [UNKNOWN]
        assert Client().get("/0/", headers={"X-API-Key": UNKNOWN}).status_code == 401  # the view did not ask
        assert rows() == []


class TestRequestsWithinRequests:
    @pytest.mark.parametrize("kind", ["copies", "built afresh"])
    def test_each_part_has_its_own_row(self, atomic_requests: bool, settings: Settings, kind: str) -> None:
        parts = [guarded_by(Ours, Nobody), guarded_by(Ours, Anybody), function(api_key_required(guard=LEAVES))]

        def batch(request: HttpRequest) -> JsonResponse:
            statuses = []
            for number, view in enumerate(parts):
                inner = copy.copy(request) if kind == "copies" else RequestFactory().get("/part/")
                inner.META = {**inner.META, "HTTP_X_API_KEY": f"{number:040}"}
                statuses.append(view(inner).status_code)
            return JsonResponse(statuses, safe=False)

        serve(settings, batch)
        assert Client().get("/0/").json() == [401, 200, 401]
        assert rows() == STRANGER * 2

    def test_a_part_of_a_streaming_answer(self, settings: Settings) -> None:
        view = function(api_key_required(guard=LEAVES))

        def parts(request: HttpRequest) -> Iterator[str]:
            yield str(view(request).status_code)

        serve(settings, lambda request: StreamingHttpResponse(parts(request)))
        response = Client().get("/0/", headers={"X-API-Key": UNKNOWN})
        assert b"".join(response) == b"401"
        assert rows() == STRANGER

    def test_a_streaming_answer_to_who_was_accepted(self, settings: Settings) -> None:
        class Streams(Both):
            def get(self, request: Request) -> Any:
                return StreamingHttpResponse(["one", "two"])

        serve(settings, Streams.as_view(authentication_classes=[Ours, Anybody]))
        response = Client().get("/0/", headers={"X-API-Key": UNKNOWN})
        assert (b"".join(response), rows()) == (b"onetwo", [])


class TestAnOldClassBeforeOurs:
    """Our guard was not asked; the middleware asks it if the answer is 401 and nobody was accepted."""

    @SENDERS
    def test_a_good_key_that_it_refused(
        self, atomic_requests: bool, settings: Settings, key: APIKey, sent: Callable[..., Any]
    ) -> None:
        serve(settings, guarded_by(Nobody, Ours))
        assert sent("/0/", key.key) == (401, {"detail": "Not by me."})
        assert rows() == [("used", "", "TTS", 401)]

    def test_where_django_rest_framework_makes_403_of_it(self, settings: Settings, key: APIKey) -> None:
        serve(settings, guarded_by(SessionAuthentication, Nobody, Ours))
        assert send("/0/", str(key.key))[0] == 403
        assert rows() == [("used", "", "TTS", 403)]

    def test_a_second_guard_knows_what_the_first_has_left(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TEST_LEAVING", INTERNAL)
        serve(settings, guarded_by(Ours, Nobody, OfEnvironment))
        assert send("/0/", INTERNAL)[0] == 401
        assert rows() == [("used", "", "env:TEST_LEAVING", 401)]

    @pytest.mark.parametrize("how", ["raised", "returned"])
    def test_a_401_of_the_views_own_after_it_accepted(self, settings: Settings, key: APIKey, how: str) -> None:
        class Upstream(Both):
            def get(self, request: Request) -> Response:
                if how == "raised":
                    raise AuthenticationFailed("The bank does not know us.")
                return Response({}, status=401)

        serve(settings, Upstream.as_view(authentication_classes=[TokenAuthentication, Ours]))
        token = their_token(by_authtoken, "good")
        assert send("/0/", str(key.key), Authorization=f"Token {token}")[0] == 401
        assert rows() == []

    def test_its_other_answers(self, settings: Settings, key: APIKey) -> None:
        """An error, no address, a forged request: no key is looked up for these."""

        class Answers(Both):
            def get(self, request: Request) -> Response:
                raise NotFound

        authenticators = [SessionAuthentication, Ours]
        serve(settings, Answers.as_view(authentication_classes=authenticators))
        browser = Client(enforce_csrf_checks=True, headers={"X-API-Key": str(key.key)})
        browser.force_login(User.objects.create(username="anna"))
        with CaptureQueriesContext(connection) as queries:
            assert browser.get("/0/").status_code == 404
            assert browser.post("/0/").status_code == 403
        assert not [query for query in queries if "keys_" in query["sql"]]
        assert rows() == []

    def test_a_guard_for_another_method_is_not_asked(self, settings: Settings, key: APIKey) -> None:
        class ByMethod(Both):
            def get_authenticators(self) -> Any:
                return [Nobody()] if self.request.method == "GET" else [Nobody(), Ours()]

        serve(settings, ByMethod.as_view())
        client = Client(headers={"X-API-Key": str(key.key)})
        assert client.get("/0/").status_code == 401
        assert rows() == []
        assert [client.post("/0/").status_code, client.options("/0/").status_code] == [401, 401]
        assert rows() == [("used", "", "TTS", 401)] * 2

    def test_no_key_is_presented(self, settings: Settings) -> None:
        serve(settings, guarded_by(Nobody, OfEnvironment, Ours))
        with CaptureQueriesContext(connection) as queries:
            assert Client().get("/0/").status_code == 401
        assert (len(queries), rows()) == (0, [])


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
