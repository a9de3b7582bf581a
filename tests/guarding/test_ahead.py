"""Which guards are foreseen, what is learnt from a first request, and that a look ahead breaks no view."""

import copy
import logging
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import pytest
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import Client, RequestFactory
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from pytest_django import Settings
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.views import APIView

from keys.authentication import APIKeyAuthentication
from keys.decorators import api_key_required
from keys.middleware import ahead
from keys.models import APIKey
from keys.verification import Guard
from tests.support.callers import UNKNOWN, post
from tests.support.log import rows
from tests.support.witnesses import Witness, uses_seen_from_outside, witness_plain
from tests.views import Guarded, InternalAuthentication

in_earnest = pytest.mark.django_db(transaction=True)
pytestmark = pytest.mark.django_db

witness: Any = Witness.as_view()


@pytest.fixture
def in_a_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)


def unknown(view: Callable[..., Any]) -> Callable[..., Any]:
    """Return the view as something of which nothing has been learnt."""
    return partial(view)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "transaction" in record.getMessage()]


class ByProperty(Witness):
    @property
    def authentication_classes(self) -> Any:  # type: ignore[override]
        assert self.request is not None
        return [APIKeyAuthentication] if self.request.method == "GET" else []


class ByActionMap(viewsets.ViewSet):
    permission_classes = [AllowAny]

    def get_authenticators(self) -> list[Any]:
        assert self.request is not None
        assert self.action_map is not None
        return [APIKeyAuthentication()] if self.action_map[str(self.request.method).lower()] == "list" else []

    def list(self, request: Request) -> Response:
        return Response({"seen": uses_seen_from_outside()})

    @action(detail=False, methods=["post"])
    def publish(self, request: Request) -> Response:
        return Response({"user": str(request.user)})


class WithMethod(View):
    @method_decorator(api_key_required())
    def get(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse({"seen": uses_seen_from_outside()})


class AnObject:
    """An object that is a view."""

    @method_decorator(api_key_required())
    def __call__(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse({"seen": uses_seen_from_outside()})


class Unhashable(AnObject):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unhashable)


router = SimpleRouter()
router.register("orders", ByActionMap, basename="orders")

FORESEEN: dict[str, Any] = {
    "property": ByProperty.as_view(),
    "partial": partial(witness),
    "partial of a partial": partial(partial(witness, anything="a")),
    "partial of a function": partial(witness_plain),
    "partial in a decorator": csrf_exempt(partial(witness)),
    "action map": ByActionMap.as_view({"get": "list"}),
    "method": WithMethod.as_view(),
    "object": AnObject(),
    "object that is not hashable": Unhashable(),
}


@in_earnest
@pytest.mark.usefixtures("in_a_transaction")
class TestForeseen:
    @pytest.mark.parametrize("name", FORESEEN)
    def test_the_first_use_is_committed_before_its_view(
        self, settings: Settings, caller: Client, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.ROOT_URLCONF = (path("", include([path("view/", FORESEEN[name])])),)
        assert caller.get("/view/").json()["seen"] == 1
        assert Client(headers={"X-API-Key": UNKNOWN}).get("/view/").status_code == 401
        assert rows() == [("used", "", "TTS", 200), ("refused", "unknown", "", 401)]
        assert not told(caplog)

    def test_a_property_is_asked_for_each_method(self, settings: Settings, caller: Client) -> None:
        settings.ROOT_URLCONF = (path("view/", ByProperty.as_view(permission_classes=[AllowAny])),)
        assert post(caller, "/view/", {}).status_code == 201
        assert rows() == []

    def test_head_before_any_get(self, settings: Settings, caller: Client) -> None:
        settings.ROOT_URLCONF = (path("", include(router.urls)),)
        assert caller.head("/orders/").status_code == 200
        assert caller.get("/orders/").status_code == 200
        assert rows() == [("used", "", "TTS", 200)] * 2

    def test_an_action_that_is_open(self, settings: Settings, caller: Client) -> None:
        settings.ROOT_URLCONF = (path("", include(router.urls)),)
        assert caller.post("/orders/publish/").status_code == 200
        assert rows() == []

    def test_behind_a_script_name(self, settings: Settings, caller: Client) -> None:
        settings.ROOT_URLCONF = (path("view/", partial(witness)),)
        assert caller.get("/view/", SCRIPT_NAME="/service").json()["seen"] == 1


@in_earnest
@pytest.mark.usefixtures("in_a_transaction")
class TestSetup:
    def test_runs_once(self, settings: Settings, caller: Client) -> None:
        class SetsUp(Witness):
            calls = 0

            def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
                super().setup(request, *args, **kwargs)
                type(self).calls += 1
                self.is_public = "public" in request.GET

            def get_authenticators(self) -> list[Any]:
                return [] if self.is_public else [APIKeyAuthentication()]

        settings.ROOT_URLCONF = (path("view/", SetsUp.as_view(permission_classes=[AllowAny])),)
        assert [caller.get("/view/").json()["seen"] for _ in range(2)] == [0, 2]
        assert SetsUp.calls == 2
        assert rows() == [("used", "", "TTS", 200)] * 2

    def test_what_it_decides_is_not_guessed(self, settings: Settings, caller: Client) -> None:
        class SetsUp(Guarded):
            is_public = False

            def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
                super().setup(request, *args, **kwargs)
                self.is_public = request.method == "GET"

            def get_authenticators(self) -> list[Any]:
                return [] if self.is_public else super().get_authenticators()

            def get(self, request: Request, anything: str = "") -> Response:
                return Response({})

        settings.ROOT_URLCONF = (path("view/", SetsUp.as_view(permission_classes=[AllowAny])),)
        assert [caller.get("/view/").status_code for _ in range(2)] == [200, 200]
        assert rows() == []


def without_wraps(view: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(request: HttpRequest) -> Any:
        return view(request)

    return wrapper


def calls_a_view(request: HttpRequest) -> Any:
    return witness(request)


def calls_a_copy(request: HttpRequest) -> Any:
    return witness(copy.copy(request))


class CallsAView(View):
    def get(self, request: HttpRequest) -> Any:
        return witness(request)


class DecoratedMethodOfTheFramework(APIView):
    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []

    @method_decorator(api_key_required())
    def get(self, request: Request) -> Response:
        return Response({"seen": uses_seen_from_outside()})


class NeedsWhatDispatchMakes(Witness):
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        self.realm = "internal"
        return super().dispatch(request, *args, **kwargs)

    def get_authenticators(self) -> list[Any]:
        return [APIKeyAuthentication()] if self.realm == "internal" else []


LEARNT: dict[str, Callable[..., Any]] = {
    "decorator without wraps": without_wraps(witness),
    "function": calls_a_view,
    "function with a copy": calls_a_copy,
    "class": CallsAView.as_view(),
    "method of the framework": DecoratedMethodOfTheFramework.as_view(),
    "dispatch": NeedsWhatDispatchMakes.as_view(),
}


@in_earnest
class TestLearnt:
    @pytest.mark.parametrize("name", LEARNT)
    def test_the_second_use_is_committed_before_its_view(
        self,
        settings: Settings,
        in_a_transaction: None,
        caller: Client,
        name: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        settings.ROOT_URLCONF = (path("view/", unknown(LEARNT[name])),)
        assert [caller.get("/view/").json()["seen"] for _ in range(3)] == [0, 2, 3]
        assert Client(headers={"X-API-Key": UNKNOWN}).get("/view/").status_code == 401
        assert Client().get("/view/").status_code == 401
        assert rows() == [*[("used", "", "TTS", 200)] * 3, ("refused", "unknown", "", 401)]
        (message,) = told(caplog)
        assert "verifies the next ones before the view" in message
        assert __name__ in message

    def test_each_method_by_itself(self, settings: Settings, in_a_transaction: None, caller: Client) -> None:
        @csrf_exempt
        def writes_with_a_key(request: HttpRequest) -> Any:
            return witness(request) if request.method == "POST" else JsonResponse({})

        settings.ROOT_URLCONF = (path("view/", writes_with_a_key),)
        for _ in range(2):
            assert [post(caller, "/view/", {}).status_code, caller.get("/view/").status_code] == [201, 200]
        assert rows() == [("used", "", "TTS", 201)] * 2

    def test_where_nothing_can_be_lost_nothing_is_told(
        self, settings: Settings, caller: Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.ROOT_URLCONF = (path("view/", unknown(calls_a_view)),)
        assert [caller.get("/view/").json()["seen"] for _ in range(2)] == [1, 2]
        assert not told(caplog)

    def test_a_view_with_a_transaction_of_its_own(
        self, settings: Settings, caller: Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        def own(request: HttpRequest) -> Any:
            with transaction.atomic():
                return witness(request)

        settings.ROOT_URLCONF = (path("view/", own),)
        assert [caller.get("/view/").json()["seen"] for _ in range(2)] == [0, 2]
        assert len(told(caplog)) == 1

    def test_a_fresh_request_is_told_and_cannot_be_learnt(
        self, settings: Settings, in_a_transaction: None, caller: Client, key: APIKey, caplog: pytest.LogCaptureFixture
    ) -> None:
        def sends(request: HttpRequest) -> Any:
            return witness(RequestFactory(headers={"X-API-Key": key.key}).get("/orders/"))

        settings.ROOT_URLCONF = (path("view/", sends),)
        assert [caller.get("/view/").json()["seen"] for _ in range(2)] == [0, 1]
        assert rows() == [("used", "", "TTS", 200)] * 2
        (message,) = told(caplog)
        assert "That stays so." in message
        assert "non_atomic_requests" in message

    def test_a_key_that_was_exchanged_is_told_too(
        self, settings: Settings, in_a_transaction: None, caller: Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        other = APIKey.objects.create(name="other")

        @api_key_required()
        def exchanges(request: HttpRequest) -> Any:
            request.META["HTTP_X_API_KEY"] = other.key
            return witness(request)

        settings.ROOT_URLCONF = (path("view/", exchanges),)
        assert caller.get("/view/").status_code == 200
        assert sorted(rows()) == [("used", "", "TTS", 200), ("used", "", "other", 200)]
        assert len(told(caplog)) == 1

    def test_behind_another_authenticator_is_known_and_not_told(
        self, in_a_transaction: None, caller: Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert [caller.get("/after-session/").status_code for _ in range(2)] == [200, 200]
        assert not told(caplog)


@in_earnest
@pytest.mark.usefixtures("in_a_transaction")
class TestAViewThatDoesNotAlwaysAsk:
    @pytest.fixture(autouse=True)
    def sometimes(self, settings: Settings) -> None:
        def sometimes(request: HttpRequest) -> Any:
            if "streaming" in request.GET:
                return StreamingHttpResponse(iter([b"1", b"2"]))
            return JsonResponse({}) if "open" in request.GET else witness(request)

        settings.ROOT_URLCONF = (path("view/", sometimes),)

    @pytest.mark.parametrize("how", ["open", "streaming"])
    def test_is_found_out_by_one_row_at_most(self, how: str, caller: Client, caplog: pytest.LogCaptureFixture) -> None:
        assert caller.get("/view/").json()["seen"] == 0
        for _ in range(3):
            answer: Any = caller.get(f"/view/?{how}=1")
            assert (answer.status_code, b"".join(answer)) == (200, b"12" if how == "streaming" else b"{}")
        assert caller.get("/view/").json()["seen"] == 2
        assert rows() == [("used", "", "TTS", 200)] * 3
        assert len(told(caplog)) == 2

    def test_no_refusal_is_recorded_that_it_did_not_ask_for(
        self, caller: Client, key: APIKey, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert caller.get("/view/").status_code == 200
        away = APIKey.objects.create(name="away", allowed_ips=["192.0.2.0/24"])
        key.deactivate()
        caplog.clear()
        assert Client(headers={"X-API-Key": away.key}).get("/view/?open=1").status_code == 200
        assert caller.get("/view/?open=1").status_code == 200
        assert Client(headers={"X-API-Key": UNKNOWN}).get("/view/?open=1").status_code == 200
        assert not [record for record in caplog.records if record.name == "api_keys"]
        assert rows() == [("used", "", "TTS", 200)]
        assert caller.get("/view/").status_code == 401
        assert rows() == [("used", "", "TTS", 200), ("refused", "inactive", "TTS", 401)]


class Raises(APIView):
    """Whatever looks at it before it is set up fails; it is none of ours."""

    permission_classes = [AllowAny]

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        self.tenant = "a"

    @property
    def authentication_classes(self) -> Any:  # type: ignore[override]
        return [] if self.tenant else None

    def get(self, request: Request) -> Response:
        return Response({"user": str(request.user)})


class RaisesInItself(Raises):
    setup = View.setup

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        self.tenant = "a"
        return super().initialize_request(request, *args, **kwargs)


class Hostile:
    """Raises whatever is asked of it, but for a request."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


class Accommodating:
    """Has every attribute."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in {"_non_atomic_requests", "csrf_exempt", "view_is_async"}:
            raise AttributeError(name)
        return self

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


@pytest.mark.parametrize(
    "view", [Raises.as_view(), RaisesInItself.as_view(), Accommodating()], ids=["setup", "initialize", "object"]
)
def test_a_view_without_keys_is_left_in_peace(settings: Settings, caller: Client, view: Any) -> None:
    settings.ROOT_URLCONF = (path("view/", view),)
    answers = [caller.get("/view/"), caller.head("/view/"), Client().get("/view/")]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert rows() == []


def test_looking_at_a_view_raises_nothing() -> None:
    for view in (Hostile(), object(), 7, None, Accommodating()):
        assert ahead.foresight_of(view).declared == ()


class SaysYes:
    """Has any attribute, each of which has any attribute."""

    def __getattr__(self, name: str) -> Any:
        if name in {"api_key_guard", "cls", "view_class"}:
            raise AttributeError(name)
        return SaysYes()


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_view_that_wraps_itself(is_alone: bool, settings: Settings, caller: Client) -> None:
    def around(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    def within(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    around.__wrapped__ = around if is_alone else within  # type: ignore[attr-defined]
    within.__wrapped__ = around  # type: ignore[attr-defined]
    settings.ROOT_URLCONF = (path("view/", around), path("guarded/", api_key_required()(around)))
    assert [caller.get(address).status_code for address in ("/view/", "/guarded/")] == [200, 200]
    assert rows() == [("used", "", "TTS", 200)]
    assert ahead.foresight_of(SaysYes()).declared == ()


def test_a_view_that_was_called_is_looked_up() -> None:
    def wrapped(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    view = wraps(wrapped)(lambda request: wrapped(request))
    first = ahead.foresight_of(view)
    assert ahead.foresight_of(view) is first


def test_authentication_classes_that_a_test_replaces(
    settings: Settings, caller: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Replaced(Guarded):
        permission_classes = [AllowAny]

        def get(self, request: Request, anything: str = "") -> Response:
            return Response({})

    settings.ROOT_URLCONF = (path("view/", Replaced.as_view()),)
    assert caller.get("/view/").status_code == 200
    monkeypatch.setattr(Replaced, "authentication_classes", [])
    assert caller.get("/view/").status_code == 200
    monkeypatch.setattr(Replaced, "authentication_classes", [InternalAuthentication])
    assert caller.get("/view/").status_code == 503
    assert rows() == [("used", "", "TTS", 200)]


def test_what_is_remembered_is_bounded(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    foresight = ahead.Foresight("a view")
    with caplog.at_level(logging.WARNING, "api_keys"):
        for number in range(100):
            foresight.was_late(f"M{number}", Guard(), can_learn=True)
            foresight.was_late("GET", Guard(refused_detail=str(number)), can_learn=True)
    assert set(foresight.learnt) == {"GET"}
    assert len(foresight.learnt["GET"]) <= 8
    assert len(caplog.records) == 1
