"""Error reports of a request whose key is in a header that Django does not know: the page, the mail."""

import logging
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core import mail
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from django.utils.log import AdminEmailHandler
from django.views.debug import SafeExceptionReporterFilter, get_default_exception_reporter_filter
from pytest_django import Settings
from rest_framework.response import Response
from rest_framework.views import APIView

from keys import credentials
from keys.authentication import APIKeyAuthentication
from keys.decorators import api_key_required
from keys.middleware import APIKeyMiddleware
from keys.models import APIKey
from keys.verification import Guard

TOKEN = "0123456789abcdef0123456789abcdef01234567"
OURS = f"{APIKeyMiddleware.__module__}.{APIKeyMiddleware.__name__}"

pytestmark = pytest.mark.django_db


@api_key_required(guard=Guard(header="X-Service"))
def plain(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("the view broke")


@api_key_required(guard=Guard(header="X-Service"))
async def asynchronous(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("the view broke")


class ByService(APIKeyAuthentication):
    header = ("Service-Credential", "Service-Second")
    keyword = "Basic"


class Orders(APIView):
    authentication_classes = [ByService]
    permission_classes = []

    def get(self, request: Any) -> Response:
        raise RuntimeError("the view broke")


def unguarded(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("the view broke")


urlpatterns = [
    path("plain/", plain),
    path("async/", asynchronous),
    path("drf/", Orders.as_view()),
    path("unguarded/", unguarded),
]
CASES = [("/plain/", "X-Service"), ("/async/", "X-Service"), ("/drf/", "Service-Credential")]
CASES += [("/unguarded/", "X-Service"), ("/drf/", "Service-Second")]


class OwnFilter(SafeExceptionReporterFilter):
    """A project's own, which hides one thing more."""

    def __init__(self, more: str = "REMOTE_ADDR") -> None:
        self.more = more

    def get_safe_request_meta(self, request: HttpRequest) -> dict[str, Any]:
        return {**super().get_safe_request_meta(request), self.more: "hidden by the project"}


BASIC = b64encode(f"user:{TOKEN}".encode()).decode()


@pytest.fixture(autouse=True)
def urls(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__
    APIKey.objects.create(name="A", key=TOKEN)


@pytest.fixture
def mails(settings: Settings) -> Iterator[None]:
    settings.ADMINS = [("Alice", "alice@example.com")]
    handler, logger = AdminEmailHandler(include_html=True), logging.getLogger("django.request")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


@pytest.fixture
def own_filter(settings: Settings) -> Iterator[None]:
    cached: Any = get_default_exception_reporter_filter
    settings.DEFAULT_EXCEPTION_REPORTER_FILTER = f"{__name__}.OwnFilter"
    cached.cache_clear()
    yield
    cached.cache_clear()


def get(address: str, **headers: str) -> Any:
    return Client(raise_request_exception=False).get(address, headers=headers)


@pytest.mark.parametrize(("address", "header"), CASES)
class TestDjango:
    @pytest.mark.parametrize("accept", ["text/html", "text/plain"])
    def test_the_page_hides_it(self, settings: Settings, address: str, header: str, accept: str) -> None:
        settings.DEBUG = True
        if address == "/drf/":
            accept = "*/*"
        page = get(address, **{header: TOKEN, "Accept": accept, "X-Other": "shown"})
        assert "the view broke" in page.text
        assert "shown" in page.text
        assert TOKEN not in page.text

    def test_so_does_it_for_an_async_client(self, settings: Settings, address: str, header: str) -> None:
        settings.DEBUG = True
        client = AsyncClient(raise_request_exception=False)
        page: Any = async_to_sync(client.get)(address, headers={header: TOKEN, "Accept": "*/*"})
        assert "the view broke" in page.text
        assert TOKEN not in page.text

    def test_the_mail_hides_it(self, mails: None, address: str, header: str) -> None:
        get(address, **{header: TOKEN, "X-Other": "shown"})
        parts = [part for sent in mail.outbox for part in (sent.subject, sent.body, str(getattr(sent, "alternatives")))]  # noqa: B009
        assert any("shown" in part for part in parts)
        assert not [part for part in parts if TOKEN in part]

    def test_beside_what_the_project_hides(
        self, settings: Settings, own_filter: None, address: str, header: str
    ) -> None:
        settings.DEBUG = True
        page = get(address, **{header: TOKEN, "Accept": "*/*"})
        assert "hidden by the project" in page.text
        assert TOKEN not in page.text


@pytest.mark.matrix
def test_what_basic_encodes_is_hidden(settings: Settings, mails: None) -> None:
    settings.DEBUG = True
    page = get("/drf/", Authorization=f"Basic {BASIC}", Accept="*/*").text
    assert "the view broke" in page
    settings.DEBUG = False
    get("/drf/", Authorization=f"Basic {BASIC}")
    for text in (page, *(str(vars(sent)) for sent in mail.outbox)):
        assert not [secret for secret in (TOKEN, BASIC) if secret in text]


def test_without_the_middleware(settings: Settings) -> None:
    settings.DEBUG = True
    settings.MIDDLEWARE = [each for each in settings.MIDDLEWARE if each != OURS]
    assert TOKEN not in get("/plain/", **{"X-Service": TOKEN}).text
    assert TOKEN not in get("/drf/", **{"Service-Credential": TOKEN, "Accept": "*/*"}).text


def test_a_filter_of_one_request_goes_on(settings: Settings) -> None:
    request = HttpRequest()
    request.META = {"HTTP_X_SERVICE": TOKEN, "HTTP_X_API_KEY": TOKEN, "A": "b"}
    request.exception_reporter_filter = OwnFilter("A")
    credentials.hide_from_reports(request)
    credentials.hide_from_reports(request)
    held = request.exception_reporter_filter
    shown = held.get_safe_request_meta(request)
    assert shown["A"] == "hidden by the project"
    assert TOKEN not in str(shown)


@pytest.mark.parametrize("header", ["X-API-Key", "X-Internal-Api-Key", "X-Auth-Service"])
def test_a_header_that_django_hides_needs_nothing(header: str) -> None:
    Guard(header=header)
    assert not [name for name in credentials.exposed if header.upper().replace("-", "_") in name]
