"""Settings and guards of a wrong type: one sentence, from `check` and from whatever reads them, and no secret."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from pytest_django import Settings
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.response import Response
from rest_framework.views import APIView

import keys
from keys.apps import KeysConfig
from keys.authentication import APIKeyAuthentication, EnvironmentKeyAuthentication, KeyringAuthentication
from keys.conf import conf
from keys.decorators import api_key_required
from keys.keyrings import DatabaseKeyring, EnvironmentKeyring
from keys.middleware import APIKeyMiddleware
from keys.models import APIKey
from keys.verification import Guard
from tests.support.commands import found

TOKEN = "0123456789abcdef0123456789abcdef01234567"
OURS = "keys.middleware.APIKeyMiddleware"

pytestmark = pytest.mark.django_db

OPTIONS: dict[str, Any] = {
    "SCOPES": ["users:read"],
    "DEFAULT_SCOPES": "users:read",
    "PREFIX": b"live_",
    "TRUSTED_PROXIES": "1",
    "AUDIT_FAIL_OPEN": "false",
    "RATE_FAIL_OPEN": 0,
    "ROTATION_GRACE": 7,
    "OUTCOME_DELAY": 0.05,
    "SEAL_AFTER": timedelta(-1),
    "AUDIT_SINK": None,
    "AUDIT_BACKLOG_LIMIT": "1000",
}


@api_key_required()
def guarded(request: HttpRequest) -> HttpResponse:
    return HttpResponse("in")


class Anything(BaseContentNegotiation):
    def select_renderer(self, request: Any, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class GuardedView(APIView):
    content_negotiation_class = Anything
    authentication_classes = [APIKeyAuthentication]
    permission_classes = []

    def get(self, request: Any) -> Response:
        return Response("in")


urlpatterns = [path("plain/", guarded), path("drf/", GuardedView.as_view())]


@pytest.fixture(autouse=True)
def urls(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__


@pytest.fixture(params=["text/html", "text/plain"])
def breaking(request: pytest.FixtureRequest, settings: Settings) -> Client:
    """Return a client that has a key, and gets Django's page for whatever is raised."""
    settings.DEBUG = True
    key = APIKey.objects.create(name="A", key=TOKEN)
    headers = {"X-API-Key": str(key.key), "Authorization": f"Api-Key {key.key}", "Accept": request.param}
    return Client(raise_request_exception=False, headers=headers)


def assert_says(answer: Any, *words: str) -> None:
    assert answer.status_code == 500
    assert "ImproperlyConfigured" in answer.text
    text = answer.text.replace("&quot;", '"').replace("&#x27;", "'")
    assert not [word for word in words if word not in text]
    assert TOKEN not in answer.text


@pytest.mark.parametrize("name", OPTIONS)
class TestSettings:
    def test_whoever_reads_any_of_them_is_told(self, settings: Settings, name: str) -> None:
        settings.KEYS = {name: OPTIONS[name]}
        with pytest.raises(ImproperlyConfigured, match=name):
            _ = conf.SCOPES
        with pytest.raises(ImproperlyConfigured, match=name):
            APIKey.objects.create(name="A")

    def test_the_server_does_not_start(self, settings: Settings, name: str) -> None:
        settings.KEYS = {name: OPTIONS[name]}
        with pytest.raises(ImproperlyConfigured, match=name):
            APIKeyMiddleware(lambda request: HttpResponse())

    @pytest.mark.parametrize("address", ["/plain/", "/drf/"])
    def test_a_request_without_the_middleware(
        self, breaking: Client, settings: Settings, name: str, address: str
    ) -> None:
        settings.MIDDLEWARE = [each for each in settings.MIDDLEWARE if each != OURS]
        assert breaking.get(address).content in (b"in", b'"in"')
        settings.KEYS = {name: OPTIONS[name]}
        assert_says(breaking.get(address), f'KEYS["{name}"]')

    def test_a_request_where_they_change_later(self, breaking: Client, settings: Settings, name: str) -> None:
        assert breaking.get("/plain/").content == b"in"
        settings.KEYS = {name: OPTIONS[name]}
        assert_says(breaking.get("/plain/"), f'KEYS["{name}"]')


def test_all_mistakes_are_told_at_once(settings: Settings) -> None:
    settings.KEYS = OPTIONS
    with pytest.raises(ImproperlyConfigured) as refused:
        _ = conf.PREFIX
    assert not [name for name in OPTIONS if name not in str(refused.value)]


@pytest.mark.parametrize("keys", [None, "SCOPES", [("PREFIX", "a_")]])
def test_what_is_no_dictionary(settings: Settings, keys: Any) -> None:
    settings.KEYS = keys
    with pytest.raises(ImproperlyConfigured, match="KEYS is not a dictionary"):
        _ = conf.PREFIX


def test_a_password_in_the_address_of_the_stream_is_not_shown(settings: Settings, breaking: Client) -> None:
    assert breaking.get("/plain/").content == b"in"
    settings.KEYS = {"AUDIT_SINK": "rediss//:hunter2@host", "TRUSTED_PROXIES": "1"}
    answer = breaking.get("/plain/")
    assert_says(answer, "AUDIT_SINK")
    assert "hunter2" not in answer.text


WRONG: dict[str, dict[str, Any]] = {
    "a number as header": {"header": 5},
    "no header": {"header": None},
    "a header with a colon": {"header": "X-API-Key:"},
    "headers in a list of lists": {"header": [["X-API-Key"]]},
    "headers in a set": {"header": {"X-API-Key"}},
    "no headers": {"header": ()},
    "a header of bytes": {"header": ["X-API-Key", b"X-API-Token"]},
    "no keyword among others": {"keyword": ("Api-Key", None)},
    "a number among keywords": {"keyword": ["Api-Key", 5]},
    "a number as keyword": {"keyword": 5},
    "a keyword with a blank": {"keyword": "Api Key"},
    "a text as keyrings": {"keyrings": "INTERNAL_API_KEY"},
    "one keyring alone": {"keyrings": DatabaseKeyring()},
    "a class as keyring": {"keyrings": (DatabaseKeyring,)},
    "a name as keyring": {"keyrings": ["INTERNAL_API_KEY"]},
    "a number as variable": {"keyrings": (EnvironmentKeyring(5),)},  # type: ignore[arg-type]
    "a text that is none": {"refused_detail": None},
    "another": {"not_configured_detail": 5},
    "a switch": {"answers_missing": "no"},
    "another switch": {"acts_as_owner": "no"},
}


def authenticator(attributes: dict[str, Any]) -> type[KeyringAuthentication]:
    defaults = {"keyrings": (DatabaseKeyring(),), "keyword": "Api-Key"}
    return type("Wrong", (KeyringAuthentication,), {**defaults, **attributes})


@pytest.fixture
def use(settings: Settings) -> Callable[[Any], None]:
    def use(view: Any) -> None:
        settings.ROOT_URLCONF = type("urls", (), {"urlpatterns": [path("wrong/", view)]})

    return use


@pytest.mark.parametrize("attributes", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("kind", ["authenticator", "decorator"])
class TestGuards:
    def view(self, kind: str, attributes: dict[str, Any]) -> Any:
        if kind == "decorator":
            return api_key_required(guard=Guard(**attributes))(lambda request: HttpResponse())
        return GuardedView.as_view(authentication_classes=[authenticator(attributes)])

    def test_the_check_names_the_value(self, use: Any, kind: str, attributes: dict[str, Any]) -> None:
        use(self.view(kind, attributes))
        (name,) = attributes
        assert any(name in message for message in found("keys.E023"))

    def test_a_request_is_told_so(self, use: Any, breaking: Client, kind: str, attributes: dict[str, Any]) -> None:
        use(self.view(kind, attributes))
        (name,) = attributes
        assert_says(breaking.get("/wrong/"), "guard cannot work", name)


@pytest.mark.parametrize("variables", ["INTERNAL_API_KEY", 5, None, (5,)])
def test_variables_that_are_no_tuple_of_names(
    use: Any, breaking: Client, variables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Letter by letter, the name of a variable names the shell's variable `_`."""
    monkeypatch.setenv("_", TOKEN)
    wrong = type("Wrong", (EnvironmentKeyAuthentication,), {"variables": variables})
    use(GuardedView.as_view(authentication_classes=[wrong]))
    assert any("variables" in message or "no keyring" in message for message in found("keys.E023"))
    assert_says(breaking.get("/wrong/"), "guard cannot work")


def test_a_list_of_keyrings_is_as_good_as_a_tuple(use: Any, breaking: Client) -> None:
    use(GuardedView.as_view(authentication_classes=[authenticator({"keyrings": [DatabaseKeyring()]})]))
    assert not found("keys.E023")
    assert breaking.get("/wrong/").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_an_async_request_is_told_so(settings: Settings) -> None:
    settings.DEBUG = True
    get = async_to_sync(AsyncClient(raise_request_exception=False, headers={"X-API-Key": TOKEN}).get)
    assert get("/plain/").status_code == 401
    settings.KEYS = {"TRUSTED_PROXIES": "1"}
    assert_says(get("/plain/"), 'KEYS["TRUSTED_PROXIES"]')


def test_a_label_of_the_projects_own_stops_the_start_with_one_sentence() -> None:
    class Renamed(KeysConfig):
        label = "service_keys"

    with pytest.raises(ImproperlyConfigured, match=r"Renamed gives the keys app the label 'service_keys'"):
        Renamed("keys", keys).ready()
