"""`api_key_required(or_user=True)`: plain views for services with a key and for people who are logged in."""

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.decorators import login_required
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.template.response import TemplateResponse
from django.test import AsyncClient, Client
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from pytest_django import Settings
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from keys.decorators import api_key_required
from keys.keyrings import EnvironmentKeyring
from keys.models import APIKey
from keys.verification import Guard
from tests.support.callers import UNKNOWN
from tests.support.commands import found, serve
from tests.support.keys import make_key
from tests.support.log import rows

pytestmark = pytest.mark.django_db

MISSING = {"detail": "Authentication credentials were not provided."}
OWNED = Guard(acts_as_owner=True)
INTERNAL = Guard(
    header="X-Internal-Api-Key", keyword=None, keyrings=(EnvironmentKeyring("TEST_OR_USER"),), answers_missing=True,
    refused_detail="Who are you?",
)  # fmt: skip

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def said(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"user": str(request.user), "key": getattr(request.auth, "name", request.auth)})  # type: ignore[attr-defined]


def function(guard: Decorator) -> Any:
    @guard
    def view(request: HttpRequest) -> JsonResponse:
        return said(request)

    return view


def async_function(guard: Decorator) -> Any:
    @guard
    async def view(request: HttpRequest) -> JsonResponse:
        assert str(await request.auser()) == str(request.user)
        return said(request)

    return view


def of_a_class(guard: Decorator) -> Any:
    @method_decorator(guard, name="dispatch")
    class Of(View):
        def get(self, request: HttpRequest) -> JsonResponse:
            return said(request)

        post = get

    return Of.as_view()


def of_an_async_class(guard: Decorator) -> Any:
    @method_decorator(guard, name="dispatch")
    class Of(View):
        async def get(self, request: HttpRequest) -> JsonResponse:
            return said(request)

        async def post(self, request: HttpRequest) -> JsonResponse:
            return said(request)

    return Of.as_view()


def exempt(guard: Decorator) -> Any:
    """With csrf_exempt where it was written for the keys."""

    @csrf_exempt
    @guard
    @csrf_exempt
    def view(request: HttpRequest) -> JsonResponse:
        return said(request)

    return view


VIEWS = [function, async_function, of_a_class, of_an_async_class, exempt]


@pytest.fixture(params=VIEWS, ids=lambda make: make.__name__)
def view(request: pytest.FixtureRequest, settings: Settings) -> None:
    serve(settings, request.param(api_key_required("users:read", or_user=True)))


@pytest.fixture
def anna() -> User:
    return User.objects.create(username="anna")


@pytest.fixture
def browser(anna: User) -> Client:
    client = Client(enforce_csrf_checks=True)
    client.force_login(anna)
    return client


@pytest.fixture
def token(browser: Client, settings: Settings) -> str:
    """What a form has in it, and the cookie that goes with it."""
    urls = settings.ROOT_URLCONF
    settings.ROOT_URLCONF = (path("form/", lambda request: HttpResponse(get_token(request))),)
    made = browser.get("/form/").content.decode()
    settings.ROOT_URLCONF = urls
    return made


class TestWhoIsLetIn:
    def test_who_is_logged_in(self, view: None, browser: Client, token: str) -> None:
        assert browser.get("/0/").json() == {"user": "anna", "key": None}
        assert browser.post("/0/", {"csrfmiddlewaretoken": token}).json() == {"user": "anna", "key": None}
        assert browser.post("/0/", headers={"X-CSRFToken": token}).status_code == 200
        assert not rows()

    def test_a_key(self, view: None, key: APIKey) -> None:
        client = Client(enforce_csrf_checks=True, headers={"X-API-Key": str(key.key)})
        assert client.get("/0/").json() == client.post("/0/").json() == {"user": "key:TTS", "key": "TTS"}
        assert rows() == [("used", "", "TTS", 200)] * 2

    def test_nobody_else(self, view: None) -> None:
        for ask in (Client(enforce_csrf_checks=True).get, Client(enforce_csrf_checks=True).post):
            answer = ask("/0/")
            assert (answer.status_code, answer.json()) == (401, MISSING)
            assert answer["WWW-Authenticate"] == 'Api-Key realm="api"'
            assert "Cookie" in answer["Vary"]
        assert not rows()

    def test_who_has_left(self, view: None, browser: Client, anna: User) -> None:
        User.objects.update(is_active=False)
        assert browser.get("/0/").status_code == 401

    def test_a_session_is_not_for_other_schemes(self, view: None, browser: Client) -> None:
        # No key of ours is presented, and the browser may add such a header by itself.
        assert browser.get("/0/", headers={"Authorization": "Basic eDp5"}).json()["user"] == "anna"
        assert browser.post("/0/", headers={"Authorization": "Basic eDp5"}).status_code == 403

    @pytest.mark.matrix
    def test_under_asgi(self, view: None, key: APIKey, anna: User) -> None:
        async def ask() -> list[Any]:
            client = AsyncClient(enforce_csrf_checks=True)
            await client.aforce_login(anna)
            with_key = {"X-API-Key": str(key.key)}
            return [
                await client.get("/0/"), await client.post("/0/"), await client.post("/0/", headers=with_key),
                await AsyncClient().get("/0/"), await client.get("/0/", headers={"X-API-Key": UNKNOWN}),
            ]  # fmt: skip

        answers = async_to_sync(ask)()
        assert [answer.status_code for answer in answers] == [200, 403, 200, 401, 401]
        assert [answers[0].json()["user"], answers[2].json()["user"]] == ["anna", "key:TTS"]
        assert rows() == [("used", "", "TTS", 200), ("refused", "unknown", "", 401)]

    def test_without_the_middlewares(self, view: None, settings: Settings, key: APIKey) -> None:
        settings.MIDDLEWARE = []
        assert Client().get("/0/").status_code == 401
        assert Client(headers={"X-API-Key": str(key.key)}).get("/0/").json()["key"] == "TTS"


class TestForgedRequests:
    """A page of somebody else can make the browser send its cookies, and no header of ours."""

    def test_without_a_token(self, view: None, browser: Client) -> None:
        for ask in (browser.post, browser.put, browser.patch, browser.delete):
            answer = ask("/0/")
            assert answer.status_code == 403
            assert b"CSRF" in answer.content
        assert not rows()

    def test_with_the_token_of_somebody_else(self, view: None, browser: Client, token: str) -> None:
        assert browser.post("/0/", {"csrfmiddlewaretoken": "a" * 64}).status_code == 403
        assert (
            browser.post("/0/", {"csrfmiddlewaretoken": token}, headers={"Origin": "https://evil.example"}).status_code
            == 403
        )

    @pytest.mark.parametrize("place", ["CsrfViewMiddleware", "no CsrfViewMiddleware"])
    def test_with_tokens_in_the_session(self, place: str, view: None, browser: Client, settings: Settings) -> None:
        settings.CSRF_USE_SESSIONS = True
        if place != "CsrfViewMiddleware":
            settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "Csrf" not in name]
        assert browser.post("/0/").status_code == 403
        session = browser.session
        session["_csrftoken"] = "a" * 32
        session.save()
        assert browser.post("/0/", {"csrfmiddlewaretoken": "a" * 32}).status_code == 200

    def test_the_projects_own_page(self, view: None, browser: Client, settings: Settings) -> None:
        settings.CSRF_FAILURE_VIEW = f"{__name__}.page_of_the_project"
        assert browser.post("/0/").content == b"The form is too old."

    def test_the_cookie_is_set_by_the_view_where_no_middleware_does(self, browser: Client, settings: Settings) -> None:
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "Csrf" not in name]

        @api_key_required(or_user=True)
        def form(request: HttpRequest) -> TemplateResponse:
            return TemplateResponse(request, "form.html")

        settings.TEMPLATES = [
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {"loaders": [("django.template.loaders.locmem.Loader", {"form.html": "{% csrf_token %}"})]},
            }
        ]
        serve(settings, form)
        assert "csrftoken" in browser.get("/0/").cookies
        assert browser.post("/0/", headers={"X-CSRFToken": browser.cookies["csrftoken"].value}).status_code == 200
        assert browser.post("/0/").status_code == 403


def page_of_the_project(request: HttpRequest, reason: str = "") -> HttpResponse:
    return HttpResponse("The form is too old.", status=403)


class TestAKeyAndASession:
    """Who presents a key passes by it, or not at all."""

    def test_the_key_counts(self, view: None, browser: Client, key: APIKey) -> None:
        answer = browser.post("/0/", headers={"X-API-Key": str(key.key)})
        assert answer.json() == {"user": "key:TTS", "key": "TTS"}
        assert rows() == [("used", "", "TTS", 200)]

    @pytest.mark.parametrize(
        ("headers", "status"),
        [({"X-API-Key": UNKNOWN}, 401), ({"X-API-Key": ""}, 401), ({"Authorization": "Api-Key"}, 401),
         ({"X-API-Key": UNKNOWN, "Authorization": "Api-Key x"}, 400)],
    )  # fmt: skip
    def test_a_bad_key_is_refused(self, headers: dict[str, str], status: int, view: None, browser: Client) -> None:
        assert browser.get("/0/", headers=headers).status_code == status
        assert len(rows()) == 1

    def test_a_key_without_the_scope(self, view: None, browser: Client) -> None:
        poor = APIKey.objects.create(name="poor", scopes=[])
        assert browser.get("/0/", headers={"X-API-Key": str(poor.key)}).status_code == 403
        assert rows() == [("refused", "scope", "poor", 403)]

    def test_a_key_that_acts_as_its_owner(self, settings: Settings, browser: Client) -> None:
        settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User"]}
        bobs = make_key("Bobs", owner=User.objects.create(username="bob"))
        serve(settings, function(api_key_required(guard=OWNED, or_user=True)))
        answer = browser.post("/0/", headers={"X-API-Key": str(bobs.key)})
        assert answer.json() == {"user": "bob", "key": "Bobs"}


@pytest.mark.parametrize("value", ["", "s" * 40])
def test_a_guard_that_answers_who_presents_nothing(
    value: str, settings: Settings, browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_OR_USER", value)
    serve(settings, function(api_key_required(guard=INTERNAL, or_user=True)))
    assert browser.get("/0/").json()["user"] == "anna"
    answer = Client().get("/0/")
    detail = "Who are you?" if value else "API key not configured"
    assert (answer.status_code, answer.json()["detail"]) == (401 if value else 503, detail)


def test_login_required_middleware_leaves_it_alone(view: None, settings: Settings, browser: Client) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    assert Client().get("/0/").status_code == 401
    assert browser.get("/0/").status_code == 200


def test_no_cache_hands_the_page_of_one_to_another(view: None, browser: Client, key: APIKey) -> None:
    answers = [browser.get("/0/"), browser.get("/0/", headers={"X-API-Key": str(key.key)})]
    assert all("no-store" in answer["Cache-Control"] and "X-API-Key" in answer["Vary"] for answer in answers)
    assert "Cookie" in answers[0]["Vary"]


class Page(LoginRequiredMixin, View):
    def get(self, request: HttpRequest) -> JsonResponse:
        return said(request)


@method_decorator(api_key_required(guard=OWNED), name="dispatch")
class GuardedPage(Page):
    pass


@pytest.mark.parametrize(
    "view",
    [api_key_required(guard=OWNED)(login_required(said)), api_key_required(guard=OWNED)(Page.as_view()),
     GuardedPage.as_view()],
    ids=["function", "class", "dispatch"],
)  # fmt: skip
def test_a_login_beside_the_key_is_no_service(view: Any, settings: Settings, browser: Client, key: APIKey) -> None:
    settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User"]}
    serve(settings, view)
    headers = {"X-API-Key": str(key.key)}
    assert Client().get("/0/", headers=headers).status_code == 302
    assert browser.get("/0/", headers=headers).json() == {"user": "anna", "key": "TTS"}
    # A key that acts as a user is as good as the user.
    bobs = make_key("Bobs", owner=User.objects.create(username="bob"))
    assert Client().get("/0/", headers={"X-API-Key": str(bobs.key)}).json() == {"user": "bob", "key": "Bobs"}


def test_a_login_or_a_key(settings: Settings, browser: Client, key: APIKey) -> None:
    # Then login_required asks for no more than the guard.
    serve(settings, api_key_required(or_user=True)(login_required(said)))
    assert Client(headers={"X-API-Key": str(key.key)}).get("/0/").json()["user"] == "key:TTS"
    assert browser.get("/0/").json()["user"] == "anna"


class OfTheFramework(APIView):
    authentication_classes: Any = []
    permission_classes = [AllowAny]

    def post(self, request: Request) -> Response:
        return Response({})


@pytest.mark.parametrize("classes", [[], [SessionAuthentication]])
def test_around_a_view_of_the_framework(classes: list[Any], settings: Settings, browser: Client, token: str) -> None:
    view = OfTheFramework.as_view(authentication_classes=classes)
    serve(settings, api_key_required(or_user=True)(view), function(api_key_required(or_user=True)))
    # It is exempt from Django's own protection, and may have none.
    assert browser.post("/0/").status_code == 403
    assert browser.post("/0/", {"csrfmiddlewaretoken": token}).status_code == 200
    (message,) = found("keys.W032")
    assert f"{__name__}.OfTheFramework (/0/)" in message
