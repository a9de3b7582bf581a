"""The calling service of the example, against a service that answers as the test says."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from io import StringIO
from itertools import islice
from pathlib import Path

import jwt
import pytest
import requests
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from pytest_django.fixtures import Settings

from example_project.downstream import auth_service
from example_project.downstream import settings as downstream_settings
from example_project.downstream.management.commands.announce import Command as Announce
from example_project.settings import BASE_DIR
from tests.support.recording_service import NEW, OLD, Answer, RecordingService

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/")
BATCH = "/api/v1/tts/users-info/"
FOUND = b'{"users": [{"id": 7, "first_name": "Anna", "last_name": "Berg"}], "missing": [99]}'
TOKEN = jwt.encode({"user_id": "7"}, "a secret of the auth service's own")
REFUSED = "The auth service refused this service's key: look at AUTH_API_KEY and AUTH_API_KEY_NEXT."


@pytest.fixture
def service() -> Iterator[RecordingService]:
    with RecordingService(OLD) as service:
        yield service


@pytest.fixture(autouse=True)
def downstream(
    service: RecordingService, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[None]:
    """This process, for one test, as the calling service, without a next key in its environment or a `.env`."""
    settings.ROOT_URLCONF = downstream_settings.ROOT_URLCONF
    settings.MIDDLEWARE = downstream_settings.MIDDLEWARE
    settings.AUTH_SERVICE_URL, settings.AUTH_API_KEY = service.url, OLD
    monkeypatch.setenv("AUTH_API_KEY_NEXT", "")
    monkeypatch.chdir(tmp_path)
    auth_service.session.cache_clear()
    yield
    auth_service.session().close()
    auth_service.session.cache_clear()


def test_looks_users_up_in_a_batch(client: Client, service: RecordingService) -> None:
    service.answers[BATCH] = [Answer(body=FOUND)]
    response = client.get("/greetings/?user=7&user=99", headers={"X-Request-ID": "r-1"})
    assert response.json() == {"greetings": {"7": "Hello Anna Berg."}, "unknown": [99]}
    (received,) = service.received
    assert (received.method, received.path, received.body) == ("POST", BATCH, b'{"ids": [7, 99]}')
    assert (received.key, received.headers["X-Request-ID"]) == (OLD, "r-1")


def test_refuses_what_is_no_id_by_itself(client: Client, service: RecordingService) -> None:
    response = client.get("/greetings/?user=anna")
    assert (response.status_code, response.json()) == (400, {"detail": "Each user must be a number."})
    assert service.received == []


ASK = "/api/v1/keys/introspect/"


def test_asks_about_a_key_that_is_presented_to_it(client: Client, service: RecordingService) -> None:
    service.answers[ASK] = [Answer(body=b'{"active": true, "username": "Partner"}'), Answer(body=b'{"active": false}')]
    for status, said in ((200, {"for": "Partner", "voices": ["alto", "bass"]}), (401, {"detail": "Invalid API key."})):
        response = client.get("/voices/", headers={"X-API-Key": "presented", "X-Request-ID": "r-3"})
        assert (response.status_code, response.json()) == (status, said)
        assert "no-store" in response["Cache-Control"]
    received = service.received[0]
    assert (received.method, received.path, received.key) == ("POST", ASK, OLD)
    assert received.body == b"token=presented&address=127.0.0.1"
    assert received.headers["X-Request-ID"] == "r-3"
    assert client.get("/voices/").status_code == 401
    assert len(service.received) == 2


@pytest.mark.parametrize("status", [200, 401, 403, 404])
def test_passes_on_what_the_user_may_see(client: Client, service: RecordingService, status: int) -> None:
    challenge = {"WWW-Authenticate": 'Bearer realm="api"'} if status == 401 else {}
    service.answers["/api/v1/users/7/"] = [Answer(status, challenge, b'{"detail": "about the user"}')]
    client.cookies["access_token"] = TOKEN
    response = client.get("/me/", headers={"X-Request-ID": "r-2"})
    assert (response.status_code, response.json()) == (status, {"detail": "about the user"})
    assert response.headers.get("WWW-Authenticate") == challenge.get("WWW-Authenticate")
    assert "no-store" in response["Cache-Control"]
    (received,) = service.received
    assert (received.headers["Authorization"], received.headers["X-Request-ID"]) == (f"Bearer {TOKEN}", "r-2")


def test_takes_the_users_token_from_the_header_too(client: Client, service: RecordingService) -> None:
    client.get("/me/", headers={"Authorization": f"Bearer {TOKEN}"})
    assert [received.path for received in service.received] == ["/api/v1/users/7/"]


@pytest.mark.parametrize(
    "token", ["", "not-a-token", jwt.encode({}, "s" * 32), jwt.encode({"user_id": "internal/7"}, "s" * 32)]
)
def test_asks_nothing_for_somebody_who_is_no_user(client: Client, service: RecordingService, token: str) -> None:
    response = client.get("/me/", headers={"Authorization": f"Bearer {token}"})
    assert (response.status_code, response["WWW-Authenticate"]) == (401, 'Bearer realm="api"')
    assert service.received == []


@pytest.mark.parametrize(
    ("answer", "status", "detail"),
    [
        (Answer(401, {"WWW-Authenticate": "Api-Key"}), 502, REFUSED),
        (Answer(403), 502, "The key in AUTH_API_KEY lacks a scope: the log names it."),
        (Answer(400), 502, "The auth service answered 400."),
        (Answer(500), 502, "The auth service answered 500."),
        (Answer(503), 503, "The auth service is too busy, or down for the moment."),
        (Answer(429), 503, "The auth service is too busy, or down for the moment."),
        (Answer(200, body=b"<html>"), 502, "The auth service gave an answer that cannot be read."),
        (None, 503, "The auth service cannot be reached: look at AUTH_SERVICE_URL."),
    ],
)
def test_errors_of_the_auth_service(
    client: Client, service: RecordingService, answer: Answer | None, status: int, detail: str
) -> None:
    service.answers[BATCH] = [answer]
    response = client.get("/greetings/?user=7")
    assert (response.status_code, response.json()) == (status, {"detail": detail})


def test_passes_on_when_to_try_again(client: Client, service: RecordingService) -> None:
    service.answers[BATCH] = [Answer(429, {"Retry-After": "17"})]
    assert client.get("/greetings/?user=7")["Retry-After"] == "17"


def test_logs_what_it_does_not_tell(
    client: Client, service: RecordingService, caplog: pytest.LogCaptureFixture
) -> None:
    service.answers[BATCH] = [Answer(403, body=b"users:read is missing")]
    assert service.url not in client.get("/greetings/?user=7").text
    assert service.url in caplog.text
    assert "users:read is missing" in caplog.text
    assert OLD not in caplog.text


def test_auth_service_is_too_slow(client: Client, service: RecordingService) -> None:
    is_over = threading.Event()

    def slow() -> Answer:
        is_over.wait(60)
        return Answer()

    service.answers[BATCH] = [slow]
    auth_service.session().timeout = 0.05
    response = client.get("/greetings/?user=7")
    is_over.set()
    assert (response.status_code, response.json()) == (503, {"detail": "The auth service did not answer in time."})


def test_auth_service_is_down(client: Client, service: RecordingService) -> None:
    service.stop()
    assert client.get("/greetings/?user=7").status_code == 503


def test_other_errors_are_its_own(client: Client, service: RecordingService) -> None:
    service.answers[BATCH] = [Answer(body=b'{"users": []}')]
    with pytest.raises(KeyError):
        client.get("/greetings/?user=7")


def test_rotation_needs_no_restart(
    client: Client, service: RecordingService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    service.keys = {NEW}
    client.cookies["access_token"] = TOKEN
    assert client.get("/me/").json() == {"detail": REFUSED}
    monkeypatch.delenv("AUTH_API_KEY_NEXT")
    (tmp_path / ".env").write_text(f"AUTH_API_KEY_NEXT={NEW}\n")
    assert [client.get("/me/").status_code for _ in range(2)] == [200, 200]
    assert service.received_keys == [OLD, OLD, NEW, NEW]


def test_job(service: RecordingService) -> None:
    service.answers[BATCH] = [Answer(body=FOUND)]
    out, err = StringIO(), StringIO()
    call_command(Announce(stdout=out, stderr=err), "7", "99")
    assert (out.getvalue(), err.getvalue()) == ("Hello Anna Berg.\n", "Nobody has the id 99.\n")
    assert service.received_keys == [OLD]


def test_job_names_the_variable_of_a_refused_key(service: RecordingService) -> None:
    service.keys = set()
    with pytest.raises(CommandError, match=r"the API key was refused\. Look at AUTH_API_KEY and AUTH_API_KEY_NEXT"):
        call_command(Announce(), "7")


@pytest.mark.matrix
def test_command_starts_it(service: RecordingService) -> None:
    service.answers[BATCH] = [Answer(body=FOUND)]
    environment = {
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "AUTH_SERVICE_URL": service.url,
        "AUTH_API_KEY": OLD,
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": "127.0.0.1",
        "DEBUG": "true",
        "ALLOWED_HOSTS": "",
        "INTERNAL_API_KEY": "short",
    }
    with subprocess.Popen(
        [sys.executable, str(BASE_DIR / "manage.py"), "downstream", "--port", "0"],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            (address,) = islice((found[0] for line in process.stdout if (found := ADDRESS.search(line))), 1)
            answer = requests.get(f"{address}greetings/?user=7", timeout=60)
            assert answer.json()["greetings"] == {"7": "Hello Anna Berg."}
        finally:
            process.kill()
