"""The rows of keys that were left, or that an old class before ours has refused: when, where, and how many."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import path
from pytest_django import Settings
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotFound
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from keys import signals
from keys.audit.floods import WHOLE_ROWS
from keys.decorators import api_key_required
from keys.models import APIKey, AuditEvent
from tests.support.callers import UNAVAILABLE, UNKNOWN
from tests.support.commands import serve
from tests.support.leaving import (
    INTERNAL,
    LEAVES,
    REFUSED,
    SENDERS,
    STRANGER,
    Anybody,
    Counted,
    Nobody,
    OfEnvironment,
    OursAway,
    OursCounted,
    function,
    send,
)
from tests.support.log import rows
from tests.support.tables import renamed
from tests.support.two_systems import Both, Ours, by_authtoken, guarded_by, their_token
from tests.support.witnesses import Witness

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def counting() -> None:
    Counted.looked_up.clear()


class TestTheLog:
    pytestmark = pytest.mark.django_db(transaction=True)

    @SENDERS
    def test_that_is_away_is_missed_where_a_row_is_owed(
        self, atomic_requests: bool, settings: Settings, sent: Callable[..., Any]
    ) -> None:
        views = [guarded_by(Ours, Nobody), function(api_key_required(guard=LEAVES)), guarded_by(Ours, Anybody)]
        serve(settings, *views, guarded_by(Nobody, Ours))
        with renamed(AuditEvent._meta.db_table):
            assert [sent(f"/{number}/") for number in (0, 1, 3)] == [(503, UNAVAILABLE)] * 3
            assert sent("/2/")[0] == 200
            settings.KEYS = {"AUDIT_FAIL_OPEN": True}
            assert [sent(f"/{number}/")[0] for number in range(4)] == [401, 401, 200, 401]

    def test_that_is_away_without_the_middleware(self, settings: Settings) -> None:
        settings.MIDDLEWARE = [each for each in settings.MIDDLEWARE if not each.startswith("keys.")]
        serve(settings, guarded_by(Ours, Nobody), function(api_key_required(guard=LEAVES)), guarded_by(Ours, Anybody))
        with renamed(AuditEvent._meta.db_table):
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
    def test_of_a_view_that_is_known_by_its_requests(
        self, settings: Settings, key: APIKey, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The view is expected to ask, and what it does not ask for is neither recorded nor a reason to forget it."""
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
        monkeypatch.setenv("TEST_LEAVING", INTERNAL)
        authenticators = [OfEnvironment, OursCounted, Anybody]
        inner = Witness.as_view(authentication_classes=authenticators, permission_classes=[AllowAny])

        def hides(request: HttpRequest) -> Any:
            return JsonResponse({}, status=int(request.GET["status"])) if "status" in request.GET else inner(request)

        serve(settings, hides)
        assert send()[0] == 200  # nothing is learnt, and nobody is told, of what is left
        assert warnings(caplog) == []
        assert [send("/0/", INTERNAL)[1]["seen"], send("/0/", str(key.key))[1]["seen"]] == [0, 1]
        AuditEvent.objects.all().delete()
        Counted.looked_up.clear()
        assert (send()[0], Counted.looked_up) == (200, [UNKNOWN])
        assert [send(f"/0/?status={status}")[0] for status in (200, 401)] == [200, 401]
        assert rows() == []
        assert send("/0/", str(key.key))[1]["seen"] == 1
        assert len(warnings(caplog)) == 1


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "The view " in record.getMessage()]


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

    def test_an_answer_401_to_the_whole(self, settings: Settings) -> None:
        """Which parts were refused is known by then."""
        parts = [guarded_by(Ours, Anybody), guarded_by(Ours, Nobody)]

        def batch(request: HttpRequest) -> HttpResponse:
            for number, view in enumerate(parts):
                inner = copy.copy(request)
                inner.META = {**request.META, "HTTP_X_API_KEY": f"{number:040}"}
                view(inner)
            return HttpResponse(status=401)

        serve(settings, batch)
        assert Client().get("/0/").status_code == 401
        assert rows() == STRANGER

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
