"""Where a token that a service asks about must not turn up: rows, lines, error reports, signals, spans."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.core import mail
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from django.utils.log import AdminEmailHandler
from pytest_django import Settings

from keys import signals
from keys.gateway import IntrospectionView
from keys.keyrings import DatabaseKeyring, EnvironmentKeyring
from keys.models import APIKey, AuditEvent
from keys.verification import Guard
from tests.support.introspecting import ADDRESS, FORM, ask, send
from tests.support.keys import make_key
from tests.support.tables import renamed

TOKEN = "fedcba9876543210fedcba9876543210fedcba98"
OTHER = "an-unknown.token/of~another+kind"
FORWARDED = {"User-Agent": f"curl {TOKEN} {OTHER}", "X-Request-ID": f"{OTHER}:{TOKEN}"}

pytestmark = pytest.mark.django_db


class Failing(DatabaseKeyring):
    """A project's keyring, whose library writes into errors what it was sent."""

    def find(self, token: str) -> Any:
        asked = f"GET /?token={token}"
        raise RuntimeError(asked)


class FailingForCallers(DatabaseKeyring):
    def find(self, token: str) -> Any:
        raise RuntimeError("no caller can be found")


def broken(get_response: Any) -> Any:
    """Be a middleware that breaks once the view has answered."""

    def answer(request: HttpRequest) -> HttpResponse:
        get_response(request)
        raise RuntimeError(f"{request.POST!r} {request.body!r} {request.FILES!r}")

    return answer


def logging_forms(get_response: Any) -> Any:
    """Be a middleware that logs the form of each request once it is answered."""

    def answer(request: HttpRequest) -> HttpResponse:
        response: HttpResponse = get_response(request)
        logging.getLogger("project").info("%r %r", request.POST, request.body)
        return response

    return answer


urlpatterns = [
    path("api/v1/keys/introspect/", IntrospectionView.as_view(), name="introspect"),
    path(f"{TOKEN}/<path:rest>", IntrospectionView.as_view(), name="below"),
    path("failing/", IntrospectionView.as_view(keyrings=(Failing(),)), name="failing"),
    path("callers/", IntrospectionView.as_view(guard=Guard(keyrings=(FailingForCallers(),))), name="callers"),
    path("wrong/", IntrospectionView.as_view(keyrings=7), name="wrong"),
    path("no-guard/", IntrospectionView.as_view(guard=Guard(header=())), name="no_guard"),
    path(
        "unset/",
        IntrospectionView.as_view(guard=Guard(keyrings=(EnvironmentKeyring("TEST_UNSET"),), answers_missing=True)),
        name="unset",
    ),
]


@pytest.fixture(autouse=True)
def urls(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__


@pytest.fixture
def orders() -> APIKey:
    return make_key("Orders", scopes=["keys:introspect"])


@pytest.fixture
def billing() -> APIKey:
    return make_key("Billing", key=TOKEN)


@pytest.fixture
def mails(settings: Settings) -> Iterator[list[Any]]:
    """What Django and the app write to the administrators."""
    settings.ADMINS = [("Alice", "alice@example.com")]
    handler = AdminEmailHandler(include_html=True)
    loggers = [logging.getLogger(name) for name in ("django", "django.request", "django.security", "api_keys")]
    for logger in loggers:
        logger.addHandler(handler)
    yield mail.outbox
    for logger in loggers:
        logger.removeHandler(handler)


def texts(messages: list[Any]) -> str:
    return "\n".join(part for one in messages for part in (one.subject, str(one.body), str(one.alternatives)))


def everything_kept(caplog: pytest.LogCaptureFixture) -> str:
    lines = [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
    return "\n".join([caplog.text, *lines, str(list(AuditEvent.objects.values()))])


def has_token(text: str) -> bool:
    return TOKEN in text or OTHER in text


class TestRowsAndLines:
    @pytest.mark.parametrize("token", [TOKEN, OTHER])
    def test_mask_it_wherever_the_client_has_repeated_it(
        self, orders: APIKey, billing: APIKey, caplog: pytest.LogCaptureFixture, token: str
    ) -> None:
        for body in (f"token={token}", f"token={token}&token={token}", f"token={token}&address={token}"):
            send(orders, body, headers=FORWARDED)
        kept = everything_kept(caplog).replace(OTHER if token == TOKEN else TOKEN, "")
        assert token not in kept
        assert "********" in kept
        assert str(orders.key) not in kept

    def test_of_a_path_that_holds_it_mask_it_too(self, orders: APIKey, billing: APIKey) -> None:
        # Django's own lines, and the server's, name the path.
        assert ask(orders, billing, path=f"/{TOKEN}/{TOKEN}").json()["active"] is True
        assert {*AuditEvent.objects.filter(event="used").values_list("path", flat=True)} == {"/********/********"}

    def test_mask_the_keys_of_both(self, orders: APIKey, billing: APIKey) -> None:
        both = {"User-Agent": f"{orders.key} {TOKEN}", "X-Request-ID": f"{TOKEN}{orders.key}"}
        ask(orders, billing, headers=both)
        agents = {*AuditEvent.objects.filter(event="used").values_list("user_agent", "request_id")}
        assert agents == {("******** ********", "****************")}

    def test_of_a_middleware_that_logs_forms_do_not_show_it(
        self, settings: Settings, orders: APIKey, billing: APIKey, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        settings.MIDDLEWARE = [f"{__name__}.logging_forms", *settings.MIDDLEWARE]
        assert ask(orders, billing).json()["active"] is True
        assert "project" in {record.name for record in caplog.records}
        assert not has_token(everything_kept(caplog))

    def test_signals_do_not_hold_it(self, orders: APIKey, billing: APIKey) -> None:
        seen: list[Any] = []

        def take(sender: Any, **sent: Any) -> None:
            seen.append((sender, sent, vars(sent["key"]) if sent["key"] is not None else None))

        for signal in (signals.key_used, signals.key_refused):
            signal.connect(take)
        ask(orders, billing, headers=FORWARDED)
        ask(orders, OTHER, headers={"User-Agent": OTHER})
        for signal in (signals.key_used, signals.key_refused):
            signal.disconnect(take)
        assert len(seen) == 4
        assert TOKEN not in str(seen[:3])
        assert OTHER not in str(seen[2:])


REPORTS = {
    "a keyring raises": ("/failing/", 503),
    "the caller's keyring raises": ("/callers/", 500),
    "keyrings of a wrong type": ("/wrong/", 500),
    "a guard of a wrong type": ("/no-guard/", 500),
    "no key is configured": ("/unset/", 503),
}


# Django's page of an error takes its time.
DEBUG = [False, pytest.param(True, marks=pytest.mark.matrix)]


class TestReports:
    @pytest.mark.parametrize("multipart", [False, True])
    @pytest.mark.parametrize("case", REPORTS)
    @pytest.mark.parametrize("debug", DEBUG)
    @pytest.mark.parametrize("middleware", [True, pytest.param(False, marks=pytest.mark.matrix)])
    def test_do_not_show_it(
        self, settings: Settings, orders: APIKey, billing: APIKey, mails: list[Any], caplog: pytest.LogCaptureFixture,
        case: str, debug: bool, middleware: bool, multipart: bool,
    ) -> None:  # fmt: skip
        settings.DEBUG = debug
        if not middleware:
            settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "APIKeyMiddleware" not in name]
        address, status = REPORTS[case]
        kind, body = FORM, f"token={TOKEN}".encode()
        if multipart:
            kind = "multipart/form-data; boundary=b"
            body = b'--b\r\nContent-Disposition: form-data; name="token"\r\n\r\n%s\r\n--b--\r\n' % TOKEN.encode()
        answer = send(orders, body, kind, path=address, headers={"Accept": "text/html"})
        if not multipart:
            assert answer.status_code == status
        assert not has_token(answer.text)
        if answer.status_code >= 500:
            assert mails
            assert not has_token(texts(mails))
            assert str(orders.key) not in texts(mails)
        lines = "\n".join(f"{record.getMessage()} {record.args}" for record in caplog.records)
        assert not has_token(lines + str(list(AuditEvent.objects.values())))

    @pytest.mark.parametrize("debug", DEBUG)
    def test_of_what_breaks_after_the_view_do_not_either(
        self, settings: Settings, orders: APIKey, billing: APIKey, mails: list[Any], debug: bool
    ) -> None:
        settings.DEBUG = debug
        settings.MIDDLEWARE = [f"{__name__}.broken", *settings.MIDDLEWARE]
        answers = [
            ask(orders, billing, headers={"Accept": "text/html"}),
            send(orders, f'{{"token": "{TOKEN}"}}', "application/json"),
            Client(raise_request_exception=False).post(ADDRESS, {"token": TOKEN}, headers={"X-API-Key": orders.key}),
            Client(raise_request_exception=False).post(ADDRESS, f"token={TOKEN}", FORM),
        ]
        assert [answer.status_code for answer in answers] == [500] * 4
        assert not has_token("".join(answer.text for answer in answers) + texts(mails))

    @pytest.mark.django_db(transaction=True)
    def test_of_a_log_that_is_away_do_not_either(
        self, orders: APIKey, billing: APIKey, mails: list[Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        with renamed(AuditEvent._meta.db_table):
            assert ask(orders, billing, headers={"Accept": "text/html"}).status_code == 503
        assert mails
        assert not has_token(texts(mails) + caplog.text)


def test_a_file_in_a_form_is_not_written_to_the_disk(orders: APIKey, settings: Settings, tmp_path: Any) -> None:
    settings.FILE_UPLOAD_TEMP_DIR, settings.FILE_UPLOAD_MAX_MEMORY_SIZE = str(tmp_path / "not there"), 0
    body = b'--b\r\nContent-Disposition: form-data; name="token"; filename="x"\r\n\r\n%s\r\n--b--\r\n' % TOKEN.encode()
    assert send(orders, body, "multipart/form-data; boundary=b").status_code == 400


def test_the_span_names_the_caller_and_the_other_apart(orders: APIKey, billing: APIKey) -> None:
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    exporting = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider, exporter = trace.TracerProvider(), exporting.InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("test").start_as_current_span("request"):
        ask(orders, billing)
        ask(orders, OTHER)
    (span,) = exporter.get_finished_spans()
    assert dict(span.attributes) == {
        "api_key.name": "Orders", "api_key.prefix": orders.prefix, "api_key.introspected.name": "",
        "api_key.introspected.prefix": "", "api_key.introspected.reason": "unknown",
    }  # fmt: skip
