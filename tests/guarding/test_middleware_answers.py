"""The outcome that is added to a use, whoever gave the answer."""

from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client
from pytest_django import Settings

from keys.models import APIKey, AuditEvent
from tests.support.log import rows

pytestmark = pytest.mark.django_db


class TestTheAnswer:
    def test_that_another_middleware_replaces(self, settings: Settings, caller: Client) -> None:
        settings.MIDDLEWARE = ["tests.guarding.test_middleware_answers.answer_teapot", *settings.MIDDLEWARE]
        assert caller.get("/guarded/").status_code == 418
        assert rows() == [("used", "", "TTS", 200)]

    def test_that_a_later_middleware_gives_instead_of_the_view(self, settings: Settings, caller: Client) -> None:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.guarding.test_middleware_answers.Closed"]
        assert caller.get("/guarded/").status_code == 503
        assert rows() == [("used", "", "TTS", 503)]

    def test_that_is_an_error_nobody_catches(self, settings: Settings, key: APIKey) -> None:
        settings.DEBUG_PROPAGATE_EXCEPTIONS = True
        with pytest.raises(RuntimeError):
            Client(headers={"X-API-Key": key.key}).get("/guarded/?status=500")
        assert rows() == [("used", "", "TTS", 500)]

    def test_to_head_and_options(self, caller: Client) -> None:
        assert [caller.head("/guarded/").status_code, caller.options("/guarded/").status_code] == [200, 200]
        response = caller.head("/streaming/")
        assert (response.status_code, b"".join(response)) == (200, b"")
        assert list(AuditEvent.objects.filter(event="used").order_by("id").values_list("method", "status")) == [
            ("HEAD", 200), ("OPTIONS", 200), ("HEAD", 200)
        ]  # fmt: skip

    def test_that_is_a_file(self, caller: Client) -> None:
        response = caller.get("/download/")
        assert b"".join(response) == b"contents"
        assert response["Content-Length"] == "8"
        assert rows() == [("used", "", "TTS", 200)]

    def test_that_is_compressed(self, settings: Settings, caller: Client) -> None:
        settings.MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", *settings.MIDDLEWARE]
        response = caller.get("/streaming/", headers={"Accept-Encoding": "gzip"})
        assert response["Content-Encoding"] == "gzip"
        assert b"".join(response)
        assert rows() == [("used", "", "TTS", 200)]


def answer_teapot(get_response: Any) -> Any:
    def middleware(request: HttpRequest) -> HttpResponse:
        get_response(request)
        return HttpResponse(status=418)

    return middleware


class Closed:
    """Answers in the view's place, after our middleware has seen the request."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response: HttpResponse = self.get_response(request)
        return response

    def process_view(self, request: HttpRequest, *args: Any) -> HttpResponse:
        return HttpResponse(status=503)
