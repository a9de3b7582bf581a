"""One right row for each request, whatever becomes of the view and of its transaction."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client
from pytest_django import Settings

from keys.models import APIKey, AuditEvent
from tests.support.callers import UNKNOWN
from tests.support.log import rows

pytestmark = pytest.mark.django_db
# Where it matters that a view's transaction is a real one, and not a savepoint in the test's.
in_earnest = pytest.mark.django_db(transaction=True)


@in_earnest
def test_a_use_is_one_row_with_its_status(atomic_requests: bool, caller: Client) -> None:
    statuses = [200, 400, 403, 404, 429, 500]
    assert [caller.get(f"/guarded/?status={status}").status_code for status in statuses] == statuses
    assert rows() == [("used", "", "TTS", status) for status in statuses]
    assert not AuditEvent.objects.filter(event="used", duration_ms=None).exists()


@in_earnest
def test_a_refusal_is_one_row_with_its_status(atomic_requests: bool, caller: Client, key: APIKey) -> None:
    assert Client(headers={"X-API-Key": UNKNOWN}).get("/guarded/").status_code == 401
    assert caller.get("/guarded/", headers={"Authorization": f"Api-Key {UNKNOWN}"}).status_code == 400
    key.scopes = []
    key.save()
    assert [caller.get("/scoped/").status_code, caller.get("/plain/").status_code] == [403, 403]
    key.rate = "1/day"
    key.save()
    assert [caller.get("/throttled/").status_code, caller.get("/throttled/").status_code] == [200, 429]
    key.deactivate()
    assert caller.get("/guarded/").status_code == 401
    assert rows() == [
        ("refused", "unknown", "", 401), ("refused", "conflict", "", 400), *[("refused", "scope", "TTS", 403)] * 2,
        ("used", "", "TTS", 200), ("refused", "rate", "TTS", 429), ("refused", "inactive", "TTS", 401),
    ]  # fmt: skip


@in_earnest
def test_a_use_is_committed_before_its_view(atomic_requests: bool, caller: Client) -> None:
    for seen, path in enumerate(
        ["/witness/", "/witness-plain/", "/witness-function/", "/witness-named-late/"], start=1
    ):
        assert caller.get(path).json() == {"seen": seen, "in_transaction": atomic_requests}
    assert rows() == [("used", "", "TTS", 200)] * 4


class TestBehindAnotherAuthenticator:
    @in_earnest
    def test_a_use_survives_the_views_transaction(self, atomic_requests: bool, caller: Client) -> None:
        assert [caller.get(f"/after-session/?status={status}").status_code for status in (200, 400)] == [200, 400]
        assert rows() == [("used", "", "TTS", 200), ("used", "", "TTS", 400)]

    @in_earnest
    def test_a_refusal_survives_it_too(self, atomic_requests: bool) -> None:
        client = Client(headers={"X-API-Key": UNKNOWN})
        answers = [client.get("/after-session/") for _ in range(7)]
        assert [response.status_code for response in answers] == [401] * 7
        assert answers[0]["WWW-Authenticate"] == 'Api-Key realm="api"'
        log = AuditEvent.objects.order_by("id").values_list("event", "reason", "status", "count")
        assert list(log) == [("refused", "unknown", 401, 1)] * 5 + [("refused", "unknown", 401, 2)]

    def test_a_key_beside_a_session_is_left_alone(self, caller: Client) -> None:
        caller.force_login(User.objects.create(username="alice"))
        assert caller.get("/after-session/").json() == {"user": "alice"}
        assert rows() == []

    def test_a_session_that_is_none_leaves_the_request_to_the_key(self, caller: Client) -> None:
        caller.cookies["sessionid"] = "forged"
        assert caller.get("/after-session/").json() == {"user": "key:TTS"}
        assert rows() == [("used", "", "TTS", 200)]

    def test_a_session_that_fails_is_the_end_of_it(self, key: APIKey) -> None:
        client = Client(enforce_csrf_checks=True, headers={"X-API-Key": key.key})
        client.force_login(User.objects.create(username="alice"))
        assert client.post("/after-session/").status_code == 403
        assert rows() == []

    @in_earnest
    def test_an_outcome_is_added_to_no_other_row(
        self, monkeypatch: pytest.MonkeyPatch, caller: Client, settings: Settings
    ) -> None:
        # The id of the row that was rolled back is given to another one before the outcome comes.
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
        settings.MIDDLEWARE = ["tests.guarding.test_middleware.make_a_key", *settings.MIDDLEWARE]
        assert caller.get("/after-session/?status=400").status_code == 400
        assert rows() == [("used", "", "TTS", 400)]
        assert AuditEvent.objects.get(event="created", key_name="meanwhile").status is None


def make_a_key(get_response: Any) -> Any:
    def middleware(request: HttpRequest) -> HttpResponse:
        response: HttpResponse = get_response(request)
        APIKey.objects.create(name="meanwhile")
        return response

    return middleware


class TestViewsThatNameTheirAuthenticators:
    def test_by_a_method(self, atomic_requests: bool, caller: Client) -> None:
        stranger = Client(headers={"X-API-Key": UNKNOWN})
        assert [client.get("/public-to-read/").status_code for client in (caller, stranger)] == [200, 200]
        assert rows() == []
        posts = [client.post("/public-to-read/", {}, content_type="application/json") for client in (caller, stranger)]
        assert [response.status_code for response in posts] == [201, 401]
        assert rows() == [("used", "", "TTS", 201), ("refused", "unknown", "", 401)]

    def test_by_a_method_alone(self, atomic_requests: bool, caller: Client) -> None:
        assert caller.get("/named-late/?status=404").status_code == 404
        assert Client(headers={"X-API-Key": UNKNOWN}).get("/named-late/").status_code == 401
        assert rows() == [("used", "", "TTS", 404), ("refused", "unknown", "", 401)]

    def test_by_the_action_of_a_viewset(self, caller: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEST_DEDICATED_KEY", "d" * 32)
        assert caller.get("/viewset/jobs/").json() == {"name": "TTS"}
        assert caller.post("/viewset/jobs/run/").status_code == 401
        internal = Client(headers={"X-Internal-Api-Key": "d" * 32})
        assert internal.post("/viewset/jobs/run/").json() == {"name": "env:TEST_DEDICATED_KEY"}
        assert internal.get("/viewset/jobs/").status_code == 401
        assert rows() == [("used", "", "TTS", 200), ("used", "", "env:TEST_DEDICATED_KEY", 200)]

    def test_of_which_there_are_two(self, key: APIKey) -> None:
        other = APIKey.objects.create(name="other")

        def get(**headers: str) -> int:
            return (
                Client(headers={name.replace("_", "-"): value for name, value in headers.items()})
                .get("/two-headers/")
                .status_code
            )

        assert get(X_API_Key=key.key) == 200
        assert get(X_Internal_Api_Key=other.key) == 200
        assert get(X_Internal_Api_Key=other.key, X_API_Key=UNKNOWN) == 200
        assert get(X_Internal_Api_Key=UNKNOWN, X_API_Key=key.key) == 401
        assert get() == 401
        assert rows() == [
            ("used", "", "TTS", 200), ("used", "", "other", 200), ("used", "", "other", 200),
            ("refused", "unknown", "", 401)
        ]  # fmt: skip

    def test_on_one_method_alone(self, atomic_requests: bool, caller: Client, key: APIKey) -> None:
        poor = APIKey.objects.create(name="poor", scopes=[])
        answers = [caller.get("/by-method/"), caller.get("/by-method/?break=1"), Client().get("/by-method/")]
        answers += [Client(headers={"X-API-Key": token}).get("/by-method/") for token in (UNKNOWN, poor.key)]
        assert [response.status_code for response in answers] == [200, 500, 401, 401, 403]
        assert {response["Cache-Control"] for response in answers} == {"no-store"}
        response = Client(enforce_csrf_checks=True).put("/by-method/")
        assert (response.status_code, response.headers.get("Cache-Control")) == (403, None)
        assert rows() == [
            ("used", "", "TTS", 200), ("used", "", "TTS", 500),
            ("refused", "unknown", "", 401), ("refused", "scope", "poor", 403),
        ]  # fmt: skip

    def test_twice(self, caller: Client) -> None:
        assert caller.get("/guarded-twice/").status_code == 200
        assert rows() == [("used", "", "TTS", 200)]


class TestWithoutTheMiddleware:
    @pytest.fixture(autouse=True)
    def absent(self, settings: Settings) -> None:
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if not name.startswith("keys.")]

    def test_the_answers_are_the_same(self, atomic_requests: bool, caller: Client) -> None:
        stranger = Client(headers={"X-API-Key": UNKNOWN})
        for path in ("/guarded/", "/plain/", "/after-session/", "/scoped/", "/throttled/", "/streaming/"):
            answers = [
                caller.get(path), stranger.get(path), caller.get(path, headers={"Authorization": f"Api-Key {UNKNOWN}"})
            ]  # fmt: skip
            assert [response.status_code for response in answers] == [200, 401, 400]
        assert AuditEvent.objects.filter(event="used", key_name="TTS").count() == 6

    def test_refusals_stay_on_the_record_where_nothing_rolls_them_back(self, key: APIKey) -> None:
        assert Client(headers={"X-API-Key": UNKNOWN}).get("/guarded/").status_code == 401
        assert rows() == [("refused", "unknown", "", 401)]
