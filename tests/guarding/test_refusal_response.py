"""`KEYS["REFUSAL_RESPONSE"]`: refusals in the project's own form, and JSON where that does not work."""

import sys
from collections.abc import Callable, Iterator
from http import HTTPStatus
from types import ModuleType
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.template.response import SimpleTemplateResponse
from django.test import AsyncClient, Client
from pytest_django import Settings

from keys import decorators
from keys.models import APIKey, AuditEvent
from tests.docs.pages import block, run
from tests.support.callers import UNKNOWN
from tests.support.log import errors, rows
from tests.support.tables import renamed

pytestmark = pytest.mark.django_db

HERE = "tests.guarding.test_refusal_response"
INVALID = {"detail": "Invalid API key."}


def problem(request: HttpRequest, status: int, detail: str) -> HttpResponse:
    """As RFC 9457 has it, and with headers that keys forbid."""
    document = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail, "instance": request.path}
    headers = {"Cache-Control": "public, max-age=600", "Vary": "Accept", "WWW-Authenticate": "Mine"}
    return JsonResponse(document, status=status, content_type="application/problem+json", headers=headers)


def envelope(request: HttpRequest, status: int, detail: str) -> HttpResponse:
    return JsonResponse({"ok": False, "error": detail})


def redirect(request: HttpRequest, status: int, detail: str) -> HttpResponse:
    return HttpResponseRedirect("/login/")


def streamed(request: HttpRequest, status: int, detail: str) -> StreamingHttpResponse:
    return StreamingHttpResponse(iter([b"no"]), status=status)


def page(request: HttpRequest, status: int, detail: str) -> SimpleTemplateResponse:
    return SimpleTemplateResponse("admin/404.html", {}, status=status)


def missing_page(request: HttpRequest, status: int, detail: str) -> SimpleTemplateResponse:
    return SimpleTemplateResponse("nowhere.html", {}, status=status)


def failing(request: HttpRequest, status: int, detail: str) -> HttpResponse:
    raise RuntimeError(request.headers["X-API-Key"])


def user(request: HttpRequest, status: int, detail: str) -> HttpResponse:
    del request.user
    return HttpResponse(request.user)


def nothing(request: HttpRequest, status: int, detail: str) -> None:
    return None


def text(request: HttpRequest, status: int, detail: str) -> str:
    return detail


async def awaited(request: HttpRequest, status: int, detail: str) -> HttpResponse:
    return HttpResponse(detail)


@pytest.fixture(autouse=True)
def nothing_told_yet() -> None:
    decorators._told.clear()


@pytest.fixture
def answers(settings: Settings) -> Callable[[Any], None]:
    def use(function: Any) -> None:
        settings.KEYS = {"REFUSAL_RESPONSE": f"{HERE}.{getattr(function, '__name__', function)}"}

    return use


def call(path: str, token: str | None = UNKNOWN, **extra: str) -> Any:
    headers = {} if token is None else {"X-API-Key": token}
    return Client(raise_request_exception=False).get(path, headers={**headers, **extra})


def call_async(path: str, token: str | None = UNKNOWN) -> Any:
    headers = {} if token is None else {"X-API-Key": token}
    return async_to_sync(AsyncClient(raise_request_exception=False).get)(path, headers=headers)


@pytest.mark.matrix
@pytest.mark.parametrize("path", ["/plain/", "/plain-async/", "/plain-class/", "/async-class/", "/async-method/"])
@pytest.mark.parametrize("send", [call, call_async])
def test_every_plain_view_answers_in_the_form_of_the_project(
    answers: Any, key: APIKey, path: str, send: Callable[..., Any]
) -> None:
    answers(problem)
    poor = APIKey.objects.create(name="poor", scopes=[])
    for token, status in ((None, 401), (UNKNOWN, 401), (f"{UNKNOWN},{key.key}", 400), (poor.key, 403)):
        response = send(path, token)
        if status == 403 and path != "/plain/":
            continue  # the view asks for no scope
        assert (response.status_code, response["Content-Type"]) == (status, "application/problem+json")
        assert (response.json()["status"], response.json()["instance"]) == (status, path)
        assert response["Cache-Control"] == "no-store"
        assert {"Accept", "X-API-Key", "Authorization"} <= {*response["Vary"].split(", ")}
        assert response.headers["WWW-Authenticate"] == ('Api-Key realm="api"' if status == 401 else "Mine")


def test_the_same_without_the_middleware(answers: Any, settings: Settings) -> None:
    settings.MIDDLEWARE = [one for one in settings.MIDDLEWARE if "APIKeyMiddleware" not in one]
    answers(problem)
    response = call("/plain/")
    assert (response.status_code, response["Cache-Control"]) == (401, "no-store")
    assert response["WWW-Authenticate"] == 'Api-Key realm="api"'
    assert "X-API-Key" in response["Vary"]


@pytest.mark.parametrize(("function", "status"), [(envelope, 200), (redirect, 302), (streamed, 401), (page, 401)])
def test_another_status_or_kind_of_answer_is_the_projects_wish(
    answers: Any, key: APIKey, function: Any, status: int
) -> None:
    answers(function)
    poor = APIKey.objects.create(name="poor", scopes=[])
    for token in (UNKNOWN, poor.key):
        response = call("/plain/", token)
        assert response.status_code in (status, {401: 403}.get(status, status))
        assert response["Cache-Control"] == "no-store"
        assert response.getvalue() is not None
    assert {(event, reason) for event, reason, *_ in rows()} == {("refused", "unknown"), ("refused", "scope")}


@pytest.mark.parametrize("function", [missing_page, failing, user, nothing, text, awaited, "nobody"])
@pytest.mark.parametrize("send", [call, call_async])
@pytest.mark.filterwarnings("error")
def test_what_makes_no_answer_is_told_once_and_answered_with_json(
    answers: Any, function: Any, send: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    answers(function)
    for _ in range(2):
        response = send("/plain/")
        assert (response.status_code, response.json()) == (401, INVALID)
        assert response["WWW-Authenticate"] == 'Api-Key realm="api"'
    (told,) = [line for line in errors(caplog) if "REFUSAL_RESPONSE" in line]
    assert UNKNOWN not in caplog.text
    assert told.endswith("such refusals are answered with JSON.")
    assert rows() == [("refused", "unknown", "", 401)] * 2


@pytest.fixture
def no_log(key: APIKey) -> Iterator[None]:
    """The log's table is not there."""
    with renamed(AuditEvent._meta.db_table):
        yield


@pytest.mark.django_db(transaction=True)
def test_what_the_middleware_answers_by_itself(answers: Any, key: APIKey, no_log: None) -> None:
    answers(problem)
    for send in (call, call_async):
        for path in ("/guarded/", "/plain/"):
            for token in (key.key, UNKNOWN):
                response = send(path, token)
                assert (response.status_code, response["Content-Type"]) == (503, "application/problem+json")
                assert response.json()["detail"] == "API keys cannot be checked right now."
                assert response["Cache-Control"] == "no-store"


def test_who_gets_in_is_not_asked_about(answers: Any, key: APIKey) -> None:
    answers(failing)
    assert call("/plain/", str(key.key)).json() == {"name": "TTS"}


def test_the_function_of_the_manual(monkeypatch: pytest.MonkeyPatch, settings: Settings, key: APIKey) -> None:
    written = ModuleType("refusals_of_the_manual")
    vars(written).update(run(block("docs/guarding.md", "## Answers in your own form", "python")))
    monkeypatch.setitem(sys.modules, written.__name__, written)
    settings.KEYS = {"REFUSAL_RESPONSE": f"{written.__name__}.problem"}
    response = call("/plain/")
    assert (response.status_code, response["Content-Type"]) == (401, "application/problem+json")
    assert response.json() == {"title": "Unauthorized", "status": 401, **INVALID}
