"""The calling side: where a request goes, who gets the key, and what is never shown."""

import logging
import pickle
import subprocess
import sys
import traceback
from collections.abc import Iterator

import pytest
import requests

from keys.client import APIKeySession, KeyRefused
from tests.support.processes import ROOT
from tests.support.recording_service import KEY, Answer, RecordingService, redirect

pytestmark = pytest.mark.usefixtures("bare_environment")


@pytest.fixture
def stranger() -> Iterator[RecordingService]:
    with RecordingService() as stranger:
        stranger.answers["/"] = [Answer()]
        yield stranger


# Where a request goes


@pytest.mark.parametrize(
    ("base_path", "path", "expected"),
    [
        ("", "/api/x", "/api/x"),
        ("", "api/x", "/api/x"),
        ("/", "/api/x?page=2", "/api/x?page=2"),
        ("/prefix", "/api/x", "/prefix/api/x"),
        ("/prefix/", "/api/x/", "/prefix/api/x/"),
        ("/prefix/", "api/x", "/prefix/api/x"),
        ("/prefix", "?next=https://evil.example/", "/prefix/?next=https://evil.example/"),
        ("", "//evil.example/x", "/evil.example/x"),
        ("", "users/urn:7", "/users/urn:7"),
    ],
)
def test_a_relative_url_goes_behind_the_base(
    service: RecordingService, base_path: str, path: str, expected: str
) -> None:
    with APIKeySession(service.url + base_path, KEY) as session:
        assert session.get(path).ok
    assert [received.path for received in service.received] == [expected]


@pytest.mark.parametrize("base_url", ["", "auth.example.com", "ftp://h", f"https://{KEY}@h", f"https://h?{KEY}", KEY])
def test_an_unusable_base_url_is_refused_without_being_shown(base_url: str) -> None:
    with pytest.raises(ValueError, match="base_url must be like") as caught:
        APIKeySession(base_url, KEY)
    assert KEY not in str(caught.value)


# Who gets the key


@pytest.mark.parametrize(
    ("url", "is_origin"),
    [
        ("/x", True),
        ("https://auth.example.com/x", True),
        ("HTTPS://AUTH.example.COM:443/x", True),
        ("https://someone@auth.example.com/x", True),
        ("http://auth.example.com/x", False),
        ("http://auth.example.com:443/x", False),
        ("https://auth.example.com:8443/x", False),
        ("https://auth.example.com.evil.example/", False),
        ("https://auth.example.com@evil.example/", False),
        ("https://auth.example.com:443@evil.example/", False),
        ("https://evil.example\\@auth.example.com/", False),
        ("https://evil.example#@auth.example.com/", False),
        ("https://evil.example/https://auth.example.com/", False),
    ],
)
@pytest.mark.parametrize("headers", [{}, {"x-api-key": "mine"}])
def test_the_key_is_for_the_origin_alone(url: str, is_origin: bool, headers: dict[str, str]) -> None:
    session = APIKeySession("HTTPS://Auth.example.com/v1/", KEY)
    prepared = session.prepare_request(requests.Request("GET", url, headers=headers))
    assert prepared.headers.get("X-API-Key") == (KEY if is_origin else None)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_port_takes_no_key_along(
    service: RecordingService, stranger: RecordingService, session: APIKeySession, status: int
) -> None:
    service.answers["/away"] = [redirect(f"{stranger.url}/", status)]
    assert requests.get(f"{service.url}/away", headers={"X-API-Key": KEY}, timeout=60).ok
    assert stranger.received_keys == [KEY]  # the leak of plain requests

    stranger.received.clear()
    assert session.get("/away").ok
    assert session.post("/away", json={}).ok
    assert stranger.received_keys == [None, None]


@pytest.mark.parametrize(
    ("location", "is_origin"),
    [
        ("/elsewhere", True),
        ("http://127.0.0.1:{port}/", True),
        ("http://localhost:{port}/", False),
        ("//localhost:{port}/", False),
        ("http://127.0.0.1:{port}@localhost:{port}/", False),
        ("https://127.0.0.1:{port}/", False),
        ("http://127.0.0.1/", False),
        ("http://127.0.0.1:99999/", False),
        ("HTTP://someone:else@127.0.0.1:{port}/", True),
        ("http://127.0.0.1.:{port}/", False),
        ("http://127.1:{port}/", False),
        ("http://127.0.0.1:{port}\\@localhost:{port}/", False),
    ],
)
def test_the_next_hop_of_a_redirect(
    service: RecordingService, session: APIKeySession, location: str, is_origin: bool
) -> None:
    service.answers["/away"] = [redirect(location.format(port=service.server_port))]
    following = session.get("/away", allow_redirects=False).next
    assert following is not None
    assert following.headers.get("X-API-Key") == (KEY if is_origin else None)


@pytest.mark.parametrize("location", ["http://[/", "caf\xe9"])
@pytest.mark.parametrize("follow", [True, False])
def test_a_redirect_to_what_is_no_address_is_an_error_of_requests(
    service: RecordingService, session: APIKeySession, location: str, follow: bool
) -> None:
    service.answers["/away"] = [redirect(location)]
    with pytest.raises(requests.exceptions.InvalidURL, match=f"{service.url} answered 302") as caught:
        session.get("/away", allow_redirects=follow)
    assert caught.value.response is not None


def test_a_request_whose_address_was_changed_takes_no_key_along(
    stranger: RecordingService, session: APIKeySession
) -> None:
    prepared = session.prepare_request(requests.Request("GET", "/x"))
    prepared.url = f"{stranger.url}/"
    assert session.send(prepared).ok
    assert stranger.received_keys == [None]


def test_a_request_that_was_prepared_by_the_session_carries_the_key(
    service: RecordingService, session: APIKeySession
) -> None:
    assert session.send(session.prepare_request(requests.Request("GET", "/x"))).ok
    assert service.received_keys == [KEY]


def test_a_redirect_within_the_origin_keeps_the_key(service: RecordingService, session: APIKeySession) -> None:
    service.answers["/old"] = [redirect("/new")]
    assert session.get("/old").ok
    assert service.received_keys == [KEY, KEY]


def test_a_redirect_that_comes_back_has_lost_the_key(
    service: RecordingService, stranger: RecordingService, session: APIKeySession, caplog: pytest.LogCaptureFixture
) -> None:
    service.answers["/away"] = [redirect(f"{stranger.url}/back")]
    stranger.answers["/back"] = [redirect(f"{service.url}/chosen-by-the-stranger")]
    with pytest.raises(KeyRefused, match="no API key was sent"):
        session.get("/away")
    assert [(received.path, received.key) for received in service.received] == [
        ("/away", KEY),
        ("/chosen-by-the-stranger", None),
    ]
    assert f"A redirect left {service.url}: the API key stayed behind." in caplog.messages


def test_a_401_of_another_origin_is_an_answer(session: APIKeySession, stranger: RecordingService) -> None:
    assert session.get(f"{stranger.url}/private").status_code == 401
    assert stranger.received_keys == [None]


# What is never shown


def test_the_key_is_in_no_text(
    service: RecordingService, session: APIKeySession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    texts = [repr(session), str(vars(session)), repr(session.get("/x").request.headers)]
    service.keys.clear()
    with pytest.raises(KeyRefused) as refused:
        session.get("/x")
    service.stop()
    with pytest.raises(requests.ConnectionError) as away:
        session.post("/x")
    for caught in (refused.value, away.value):
        # What error pages and trackers show: the text, and the variables of each frame.
        lines = traceback.TracebackException.from_exception(caught, capture_locals=True).format()
        texts += [*lines, str(caught), repr(caught)]
    assert service.url in texts[0]
    assert KEY not in "\n".join([*texts, caplog.text])


@pytest.mark.parametrize("key", [f"{KEY}\n{KEY}", f"{KEY}\0", f"{KEY}é"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ValueError, match="AUTH_API_KEY holds characters") as caught:
        APIKeySession("https://auth.example.com", key)
    assert KEY not in str(caught.value)


def test_white_space_around_a_key_is_not_part_of_it(service: RecordingService) -> None:
    with APIKeySession(service.url, f" {KEY}\n") as session:
        assert session.get("/x").ok


# A session like any other


def test_a_request_goes_through_a_proxy_as_any_other(service: RecordingService, session: APIKeySession) -> None:
    with RecordingService() as proxy:
        address = f"{service.url}/x"
        proxy.answers[address] = [Answer()]
        assert session.get("/x", proxies={"http": proxy.url}).ok
        assert [(received.path, received.key) for received in proxy.received] == [(address, KEY)]
    assert service.received == []


def test_a_pickled_session_works(service: RecordingService, session: APIKeySession) -> None:
    session.headers["X-Request-ID"] = "7"
    with pickle.loads(pickle.dumps(session)) as copy:  # noqa: S301
        assert copy.get("/x").ok
    assert (service.received[0].key, service.received[0].headers["X-Request-ID"]) == (KEY, "7")


def test_importing_without_requests_names_the_extra() -> None:
    code = "import sys; sys.modules['requests'] = None; import keys.client"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("ImportError: keys.client needs requests: install django-service-keys[client].\n")
