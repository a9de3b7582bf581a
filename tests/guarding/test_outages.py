"""An unavailable audit log or key store: 503, and a good key is never called wrong."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import connection
from django.test import AsyncClient, Client
from pytest_django import Settings

from keys.models import APIKey, AuditEvent
from tests.support.callers import UNAVAILABLE, UNKNOWN, get
from tests.support.log import errors
from tests.support.tables import renamed

pytestmark = pytest.mark.django_db(transaction=True)

# The views answer so when they run.
TEAPOT = {"/guarded/?status=404": 404, "/plain/": 200, "/after-session/?status=400": 400, "/throttled/": 200}


@pytest.fixture
def no_log(key: APIKey) -> Iterator[None]:
    """The log's table is not there."""
    with renamed(AuditEvent._meta.db_table):
        yield


@pytest.fixture
def no_database(key: APIKey, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody listens where the database was."""
    elsewhere = {"PORT": "1"} if connection.vendor != "sqlite" else {"NAME": "/nowhere/db.sqlite3"}
    with monkeypatch.context() as patch:
        for name, value in elsewhere.items():
            patch.setitem(connection.settings_dict, name, value)
        connection.close()
        yield
    connection.close()


class TestWithoutTheLog:
    def test_no_view_runs(
        self, atomic_requests: bool, no_log: None, key: APIKey, caplog: pytest.LogCaptureFixture
    ) -> None:
        for path in TEAPOT:
            response = get(path, key.key)
            assert (response.status_code, response.json()) == (503, UNAVAILABLE)
        assert len(errors(caplog)) == len(TEAPOT)
        assert errors(caplog)[0].startswith("The audit log cannot be written: ")

    def test_nor_is_a_key_refused(self, atomic_requests: bool, no_log: None) -> None:
        for path in TEAPOT:
            assert [get(path, UNKNOWN).status_code, get(path, "").status_code] == [503, 503]

    def test_unless_it_may_fail_open(
        self, atomic_requests: bool, no_log: None, key: APIKey, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.KEYS = {"AUDIT_FAIL_OPEN": True}
        assert {path: get(path, key.key).status_code for path in TEAPOT} == TEAPOT
        assert len([line for line in errors(caplog) if line.startswith("The audit log cannot be written")]) == len(
            TEAPOT
        )
        assert {get(path, UNKNOWN).status_code for path in TEAPOT} == {401}
        assert get("/guarded/", "").status_code == 401

    def test_what_the_view_did_is_kept_where_it_may_fail_open(
        self, atomic_requests: bool, no_log: None, key: APIKey, settings: Settings
    ) -> None:
        settings.KEYS = {"AUDIT_FAIL_OPEN": True}
        for path in ("/writing/", "/writing-after-session/"):
            assert get(path, key.key).status_code == 201
        assert User.objects.count() == 2

    def test_async_views_do_not_run_either(self, no_log: None, key: APIKey, settings: Settings) -> None:
        get_async, headers = async_to_sync(AsyncClient().get), {"X-API-Key": key.key}
        assert get_async("/plain-async/", headers=headers).status_code == 503
        settings.KEYS = {"AUDIT_FAIL_OPEN": True}
        assert get_async("/plain-async/", headers=headers).status_code == 200

    def test_a_log_that_comes_back_has_the_whole_row(self, key: APIKey, settings: Settings) -> None:
        settings.KEYS = {"AUDIT_FAIL_OPEN": True}
        settings.MIDDLEWARE = ["tests.guarding.test_outages.repair_the_log", *settings.MIDDLEWARE]
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {AuditEvent._meta.db_table} RENAME TO away")
        assert get("/guarded/", key.key).status_code == 200
        assert AuditEvent.objects.filter(event="used", status=200, key_name="TTS").count() == 1


def repair_the_log(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        response = get_response(request)
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE away RENAME TO {AuditEvent._meta.db_table}")
        return response

    return middleware


class TestWithoutTheDatabase:
    @pytest.mark.parametrize("fail_open", [True, False])
    def test_no_key_is_refused(
        self, atomic_requests: bool, no_database: None, key: APIKey, settings: Settings, fail_open: bool
    ) -> None:
        settings.KEYS = {"AUDIT_FAIL_OPEN": fail_open}
        for path in ("/guarded/", "/scoped/", "/plain/", "/throttled/", "/named-late/"):
            for token in (key.key, UNKNOWN):
                response = get(path, token)
                assert (response.status_code, response.json()) == (503, UNAVAILABLE)
                assert response["Cache-Control"] == "no-store"

    @pytest.mark.matrix
    def test_nor_by_a_process_that_has_never_reached_it(self) -> None:
        script = (
            "import django, os; django.setup(); from django.test import Client, utils; utils.setup_test_environment();"
            " client = Client(raise_request_exception=False, headers={'X-API-Key': '0' * 40});"
            " print([client.get(path).status_code for path in ('/named-late/', '/after-session/', '/guarded/')])"
        )
        where = {
            "sqlite": "sqlite:////nowhere/db.sqlite3",
            "postgresql": "postgres://nobody@127.0.0.1:1/keys",
            "mysql": "mysql://nobody@127.0.0.1:1/keys",
        }
        environment = {"DATABASE_URL": where[connection.vendor], "DJANGO_SETTINGS_MODULE": "tests.settings"}
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
        assert done.stdout == "[503, 503, 503]\n", done.stderr

    def test_behind_another_authenticator_neither(self, no_database: None, key: APIKey) -> None:
        assert [get("/after-session/", token).status_code for token in (key.key, UNKNOWN)] == [503, 503]

    def test_what_cannot_be_a_key_is_not_on_the_record_and_so_not_refused(
        self, no_database: None, settings: Settings
    ) -> None:
        assert get("/guarded/", "").status_code == 503
        settings.KEYS = {"AUDIT_FAIL_OPEN": True}
        assert get("/guarded/", "").status_code == 401

    def test_a_request_without_a_key_is_still_asked_for_one(self, no_database: None) -> None:
        assert Client().get("/plain/").status_code == 401

    def test_a_key_of_the_environment_needs_the_log_alone(
        self, no_database: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TEST_DEDICATED_KEY", "d" * 32)
        client = Client(headers={"X-Internal-Api-Key": "d" * 32})
        assert client.get("/internal/").status_code == 503
        settings.KEYS = {"AUDIT_FAIL_OPEN": True}
        assert client.get("/internal/").json()["name"] == "env:TEST_DEDICATED_KEY"

    @pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has no connection to cut.")
    def test_a_connection_that_is_cut_heals(self, key: APIKey) -> None:
        own_id, cut = {
            "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend(%s, 5000)"),
            "mysql": ("SELECT CONNECTION_ID()", "KILL %s"),
        }[connection.vendor]
        with connection.cursor() as cursor:
            cursor.execute(own_id)
            (pid,) = cursor.fetchone()
        other = connection.copy()
        with other.cursor() as cursor:
            cursor.execute(cut, [pid])
        other.close()
        assert get("/guarded/", key.key).status_code == 503
        # What Django does between two requests, and its test client leaves out.
        connection.close_if_unusable_or_obsolete()
        assert get("/guarded/", key.key).status_code == 200
