"""Requests within requests: each key gets its own decision and its own row, whatever object presents it."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import path
from django.views.decorators.cache import cache_page
from django.views.decorators.csrf import csrf_exempt
from pytest_django import Settings
from rest_framework.exceptions import NotFound
from rest_framework.request import Request, clone_request
from rest_framework.response import Response

from keys.decorators import api_key_required
from keys.middleware import APIKeyMiddleware
from keys.models import APIKey, AuditEvent
from tests.support.callers import UNKNOWN
from tests.support.log import rows
from tests.views import Guarded, Scoped, Throttled, name_of, plain

OURS = "keys.middleware.APIKeyMiddleware"
TWICE = [[OURS, OURS], [OURS, f"{__name__}.OurMiddleware"], [f"{__name__}.OurMiddleware", OURS]]

pytestmark = pytest.mark.django_db


class OurMiddleware(APIKeyMiddleware):
    """A project's own, beside ours."""


class Gone(Guarded):
    def get(self, request: Request, anything: str = "") -> Response:
        raise NotFound


def shallow(request: HttpRequest) -> HttpRequest:
    found = copy.copy(request)
    found.META = {**request.META}
    return found


def deep(request: HttpRequest) -> HttpRequest:
    # Django's own match cannot be copied deeply.
    found = copy.deepcopy(request, {id(request.resolver_match): request.resolver_match})
    found.META = {**request.META}
    return found


def by_its_dictionary(request: HttpRequest) -> HttpRequest:
    found = HttpRequest()
    found.__dict__.update(request.__dict__)
    found.META = {**request.META}
    return found


def itself(request: HttpRequest) -> HttpRequest:
    return request


def fresh(request: HttpRequest) -> HttpRequest:
    return RequestFactory().get("/within/")


COPIES = [shallow, deep, by_its_dictionary, itself, fresh]


def batch_of(view: Callable[..., Any], make: Callable[[HttpRequest], HttpRequest]) -> Callable[..., Any]:
    """Return a view that calls another one with each of the keys it is sent."""

    @csrf_exempt
    def batch(request: HttpRequest) -> JsonResponse:
        keys = json.loads(request.body)
        statuses = []
        for key in keys:
            inner = make(request)
            inner.method = "GET"
            inner.META.pop("HTTP_X_API_KEY", None)
            if key is not None:
                inner.META["HTTP_X_API_KEY"] = key
            statuses.append(view(inner).status_code)
        return JsonResponse(statuses, safe=False)

    return batch


def send(path: str, keys: list[str | None], key: str | None = None) -> Any:
    headers = {} if key is None else {"X-API-Key": key}
    client = Client(raise_request_exception=False, headers=headers)
    return client.post(path, json.dumps(keys), content_type="application/json")


@pytest.fixture
def other(db: None) -> APIKey:
    return APIKey.objects.create(name="other", scopes=["users:read"])


@pytest.mark.parametrize("make", COPIES)
@pytest.mark.parametrize("view", [Guarded.as_view(), plain])
class TestABatch:
    def test_each_key_is_decided_by_itself(
        self,
        atomic_requests: bool,
        settings: Settings,
        key: APIKey,
        other: APIKey,
        make: Callable[[HttpRequest], HttpRequest],
        view: Callable[..., Any],
    ) -> None:
        settings.ROOT_URLCONF = (path("batch/", batch_of(view, make)),)
        response = send("/batch/", [key.key, UNKNOWN, other.key, None])
        assert (response.status_code, response.json()) == (200, [200, 401, 200, 401])
        assert sorted(rows()) == [
            ("refused", "unknown", "", 401), ("used", "", "TTS", 200), ("used", "", "other", 200),
        ]  # fmt: skip
        assert response["Cache-Control"] == "no-store"
        assert not AuditEvent.objects.died().exists()

    def test_also_where_the_batch_itself_asks_for_a_key(
        self,
        atomic_requests: bool,
        settings: Settings,
        key: APIKey,
        other: APIKey,
        make: Callable[[HttpRequest], HttpRequest],
        view: Callable[..., Any],
    ) -> None:
        settings.ROOT_URLCONF = (path("batch/", api_key_required()(batch_of(view, make))),)
        response = send("/batch/", [UNKNOWN, other.key], key.key)
        assert response.json() == [401, 200]
        assert sorted(rows()) == [
            ("refused", "unknown", "", 401), ("used", "", "TTS", 200), ("used", "", "other", 200),
        ]  # fmt: skip


@pytest.mark.parametrize("make", [shallow, deep, by_its_dictionary, itself])
def test_the_same_key_in_a_copy_is_the_same_use(
    settings: Settings, key: APIKey, make: Callable[[HttpRequest], HttpRequest]
) -> None:
    batch = batch_of(Guarded.as_view(), make)
    settings.ROOT_URLCONF = (path("batch/", api_key_required()(batch)), path("open/", batch))
    assert send("/batch/", [key.key] * 3, key.key).json() == [200] * 3
    assert rows() == [("used", "", "TTS", 200)]
    assert send("/open/", [key.key] * 3).json() == [200] * 3
    assert rows() == [("used", "", "TTS", 200)] * 2


def test_each_fresh_request_is_one_of_its_own(settings: Settings, key: APIKey) -> None:
    settings.ROOT_URLCONF = (path("batch/", api_key_required()(batch_of(Guarded.as_view(), fresh))),)
    assert send("/batch/", [key.key] * 2, key.key).json() == [200] * 2
    assert rows() == [("used", "", "TTS", 200)] * 3
    assert list(AuditEvent.objects.filter(event="used").order_by("id").values_list("path", flat=True)) == [
        "/batch/", "/within/", "/within/"
    ]  # fmt: skip


def test_a_clone_of_the_framework_is_the_same_request(settings: Settings, caller: Client) -> None:
    class Cloning(Guarded):
        def get(self, request: Request, anything: str = "") -> Response:
            return Response({"name": name_of(clone_request(request, "POST"))})

    settings.ROOT_URLCONF = (path("cloning/", Cloning.as_view()),)
    assert caller.get("/cloning/").json() == {"name": "TTS"}
    assert rows() == [("used", "", "TTS", 200)]


def test_a_denial_is_about_the_key_that_was_asked_for_last(settings: Settings, key: APIKey) -> None:
    @csrf_exempt
    @api_key_required("users:read")
    def batch(request: HttpRequest) -> HttpResponse:
        inner = shallow(request)
        inner.META["HTTP_X_API_KEY"] = json.loads(request.body)[0]
        inner.method = "GET"
        inner_answer: HttpResponse = view(inner)
        return inner_answer

    poor = APIKey.objects.create(name="poor", scopes=[])
    limited = APIKey.objects.create(name="limited", rate="1/day")
    settings.ROOT_URLCONF = (path("batch/", batch),)
    view = Scoped.as_view()
    assert send("/batch/", [poor.key], key.key).status_code == 403
    view = Throttled.as_view()
    assert [send("/batch/", [limited.key], key.key).status_code for _ in range(2)] == [200, 429]
    assert rows() == [
        ("used", "", "TTS", 403), ("refused", "scope", "poor", 403),
        ("used", "", "TTS", 200), ("used", "", "limited", 200),
        ("used", "", "TTS", 429), ("refused", "rate", "limited", 429),
    ]  # fmt: skip


def test_a_copy_that_outlives_its_request_does_not_keep_its_decision(settings: Settings, key: APIKey) -> None:
    kept: list[HttpRequest] = []

    @api_key_required()
    def keeping(request: HttpRequest) -> HttpResponse:
        kept.append(copy.copy(request))
        return HttpResponse()

    settings.ROOT_URLCONF = (path("keeping/", keeping),)
    assert Client(headers={"X-API-Key": key.key}).get("/keeping/").status_code == 200
    assert keeping(kept[0]).status_code == 200
    key.deactivate()
    assert keeping(kept[0]).status_code == 401


class TestThroughAllMiddlewares:
    """A view that sends another request through the whole of Django."""

    @pytest.fixture(params=[True, False], ids=["copy", "fresh"])
    def dispatch(self, request: pytest.FixtureRequest, settings: Settings) -> None:
        @csrf_exempt
        def batch(outer: HttpRequest) -> JsonResponse:
            handler = WSGIHandler()
            statuses = []
            for key in json.loads(outer.body):
                inner = shallow(outer) if request.param else RequestFactory().get("/missing/")
                inner.path = inner.path_info = "/gone/"
                inner.method = "GET"
                inner.META = {**inner.META, "HTTP_X_API_KEY": key}
                statuses.append(handler.get_response(inner).status_code)
            return JsonResponse(statuses, safe=False)

        settings.ROOT_URLCONF = (path("batch/", batch), path("gone/", Gone.as_view()))

    @pytest.mark.usefixtures("dispatch")
    def test_each_use_has_the_status_of_its_own_answer(self, key: APIKey, other: APIKey) -> None:
        response = send("/batch/", [key.key, UNKNOWN, other.key])
        assert (response.status_code, response.json()) == (200, [404, 401, 404])
        assert rows() == [
            ("used", "", "TTS", 404), ("refused", "unknown", "", 401), ("used", "", "other", 404)
        ]  # fmt: skip


@pytest.mark.parametrize("middleware", TWICE)
@pytest.mark.parametrize("address", ["/guarded/", "/plain/", "/named-late/", "/streaming/", "/after-session/"])
class TestTheMiddlewareTwice:
    def test_one_row_and_one_set_of_headers(
        self, settings: Settings, caller: Client, middleware: list[str], address: str
    ) -> None:
        settings.MIDDLEWARE = [*(name for name in settings.MIDDLEWARE if name != OURS), *middleware]
        response = caller.get(address)
        body = b"".join(response) if response.streaming else response.content
        assert (response.status_code, bool(body)) == (200, True)
        assert response["Vary"].lower().count("x-api-key") == 1
        assert Client(headers={"X-API-Key": UNKNOWN}).get(address).status_code == 401
        assert rows() == [("used", "", "TTS", 200), ("refused", "unknown", "", 401)]

    @pytest.mark.matrix
    def test_under_asgi_too(self, settings: Settings, key: APIKey, middleware: list[str], address: str) -> None:
        address = address.replace("streaming", "streaming-async")
        settings.MIDDLEWARE = [*(name for name in settings.MIDDLEWARE if name != OURS), *middleware]

        async def get(token: str) -> int:
            response: Any = await AsyncClient().get(address, headers={"X-API-Key": token})
            if response.streaming:
                _ = [part async for part in response]
            return int(response.status_code)

        assert [async_to_sync(get)(token) for token in (str(key.key), UNKNOWN)] == [200, 401]
        assert rows() == [("used", "", "TTS", 200), ("refused", "unknown", "", 401)]


def test_a_batch_under_asgi(settings: Settings, key: APIKey, other: APIKey) -> None:
    settings.ROOT_URLCONF = (path("batch/", api_key_required()(batch_of(plain, fresh))),)

    async def post() -> Any:
        body = json.dumps([UNKNOWN, other.key])
        return await AsyncClient().post("/batch/", body, "application/json", headers={"X-API-Key": key.key})

    assert async_to_sync(post)().json() == [401, 200]
    assert sorted(rows()) == [
        ("refused", "unknown", "", 401), ("used", "", "TTS", 200), ("used", "", "other", 200),
    ]  # fmt: skip


@pytest.mark.parametrize("make", [shallow, by_its_dictionary, itself, fresh])
def test_an_answer_from_a_guarded_view_is_not_kept_for_others(
    settings: Settings, key: APIKey, make: Callable[[HttpRequest], HttpRequest]
) -> None:
    def passes_on(request: HttpRequest) -> HttpResponse:
        inner = make(request)
        if "HTTP_X_API_KEY" in request.META:
            inner.META["HTTP_X_API_KEY"] = request.META["HTTP_X_API_KEY"]
        answer: HttpResponse = plain(inner)
        return answer

    settings.ROOT_URLCONF = (path("cached/", cache_page(60)(passes_on)),)
    assert Client(headers={"X-API-Key": key.key}).get("/cached/").status_code == 200
    assert Client().get("/cached/").status_code == 401
