"""Where the secret must not turn up: representations, error pages, error reports, histories."""

import json
import logging
import pprint
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.core import mail
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path
from django.utils.log import AdminEmailHandler
from django.views.debug import ExceptionReporter
from pytest_django.fixtures import Settings

from keys.decorators import api_key_required
from keys.models import APIKey, AuditEvent

TOKEN = "0123456789abcdef0123456789abcdef01234567"

pytestmark = pytest.mark.django_db


def makes_a_key_and_breaks(request: HttpRequest) -> HttpResponse:
    key = APIKey.objects.create(name="Broken", key=bytes.fromhex(TOKEN).hex())
    secret = key.key  # noqa: F841  local variables are what an error page shows
    held = {"key": key, "secrets": [key.key], "state": vars(key)}  # noqa: F841
    raise RuntimeError("the view broke")


@api_key_required()
def is_sent_a_key_and_breaks(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("the view broke")


urlpatterns = [path("makes/", makes_a_key_and_breaks), path("is-sent/", is_sent_a_key_and_breaks)]


def alternatives(message: mail.EmailMessage) -> list[str]:
    return [str(content) for content, mimetype in getattr(message, "alternatives", [])]


@pytest.fixture
def key() -> APIKey:
    return APIKey.objects.create(name="A", key=TOKEN)


@pytest.mark.parametrize(
    "show", [repr, str, "{}".format, "{!r}".format, ascii, pprint.pformat, lambda key: repr([key, vars(key)])]
)
def test_representations_do_not_show_it(key: APIKey, show: Any) -> None:
    assert TOKEN not in show(key)


def test_the_representation_of_the_value_itself_does_not_either(key: APIKey) -> None:
    assert TOKEN not in repr(key.key)
    assert TOKEN not in repr(APIKey(name="B", key=TOKEN).key)
    assert repr(APIKey(name="B").key) == "'********'"
    # Whoever asks for it on purpose gets it.
    assert f"{key.key}" == json.loads(json.dumps(key.key)) == TOKEN


def test_log_records_that_name_the_key_do_not_show_it(key: APIKey, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("some.project").warning("made %s %r %s", key, key, vars(key))
    assert caplog.messages
    assert TOKEN not in caplog.text


def test_the_history_of_the_admin_does_not(key: APIKey) -> None:
    user = User.objects.create(username="alice")
    LogEntry.objects.log_actions(user.pk, [key], CHANGE, change_message=[{"changed": {"fields": ["key"]}}])
    assert TOKEN not in str(list(LogEntry.objects.values()))


def test_the_audit_log_does_not(key: APIKey) -> None:
    key.key = TOKEN[::-1]
    key.save()
    rows = str(list(AuditEvent.objects.values()))
    assert TOKEN not in rows
    assert TOKEN[::-1] not in rows


class TestErrors:
    @pytest.fixture(autouse=True)
    def urls(self, settings: Settings) -> None:
        settings.ROOT_URLCONF = __name__

    @pytest.fixture
    def breaking(self) -> Client:
        return Client(raise_request_exception=False)

    @pytest.mark.parametrize("accept", ["text/html", "text/plain"])
    def test_the_debug_page_does_not_show_a_new_key(self, breaking: Client, settings: Settings, accept: str) -> None:
        settings.DEBUG = True
        response = breaking.get("/makes/", headers={"Accept": accept})
        assert response.status_code == 500
        assert b"the view broke" in response.content
        assert TOKEN not in response.text

    @pytest.mark.parametrize("header", ["X-API-Key", "Authorization"])
    @pytest.mark.parametrize("accept", ["text/html", "text/plain"])
    def test_nor_one_that_was_presented(
        self, breaking: Client, settings: Settings, key: APIKey, header: str, accept: str
    ) -> None:
        settings.DEBUG = True
        value = TOKEN if header == "X-API-Key" else f"Api-Key {TOKEN}"
        response = breaking.get("/is-sent/", headers={header: value, "Accept": accept})
        assert b"the view broke" in response.content
        assert TOKEN not in response.text

    @pytest.fixture
    def email_of_errors(self, settings: Settings) -> Iterator[None]:
        settings.ADMINS = [("Alice", "alice@example.com")]
        handler, logger = AdminEmailHandler(include_html=True), logging.getLogger("django.request")
        logger.addHandler(handler)
        yield
        logger.removeHandler(handler)

    @pytest.mark.parametrize("path", ["/makes/", "/is-sent/"])
    def test_the_report_by_email_does_not(
        self, breaking: Client, key: APIKey, email_of_errors: None, path: str
    ) -> None:
        if path == "/makes/":
            key.delete()
        response = breaking.get(path, headers={"X-API-Key": TOKEN})
        assert response.status_code == 500
        reports = [part for message in mail.outbox for part in (message.subject, message.body, *alternatives(message))]
        assert [report for report in reports if "<html" in report and "the view broke" in report]
        assert not [report for report in reports if TOKEN in report]

    def test_a_failure_to_save_does_not(self, key: APIKey) -> None:
        try:
            with transaction.atomic():
                APIKey(name="B", key=TOKEN).save()
        except IntegrityError:
            report = ExceptionReporter(None, *sys.exc_info())
        page = report.get_traceback_html()
        assert "do_insert" in page
        assert TOKEN not in page
        assert TOKEN not in report.get_traceback_text()


def test_with_a_prefix_none_of_it_is_shown() -> None:
    with override_settings(KEYS={"PREFIX": "auth_live_"}):
        key = APIKey(name="A", key="auth_live_" + TOKEN)
        assert TOKEN not in repr(vars(key))
        key.save()
        assert (repr(key), key.prefix) == ("<APIKey: A (01234567)>", TOKEN[:8])
