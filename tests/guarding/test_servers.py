"""One finished row for each request, on real servers: killed workers, clients that hang up, streams that break."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import pytest
from django.db import connection

from keys.models import APIKey, AuditEvent
from tests.support.log import rows
from tests.support.processes import SECONDS_TO_WAIT, eventually
from tests.support.servers import GUNICORN, UVICORN, Server, serving, status_of

pytestmark = [pytest.mark.matrix, pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def gunicorn(django_db_setup: None) -> Iterator[Server]:
    with serving(GUNICORN, settings="tests.settings_atomic") as server:
        yield server


@pytest.fixture(scope="module")
def uvicorn(django_db_setup: None) -> Iterator[Server]:
    with serving(UVICORN) as server:
        yield server


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Server:
    running: Server = request.getfixturevalue(request.param)
    return running


on_both = pytest.mark.parametrize("server", ["gunicorn", "uvicorn"], indirect=True)


def header(key: APIKey) -> bytes:
    return b"X-API-Key: " + str(key.key).encode()


def become(expected: list[tuple[str, str, str, int | None]]) -> bool:
    return eventually(lambda: rows() == expected)


@on_both
def test_answers_and_their_rows(server: Server, key: APIKey) -> None:
    paths = [
        b"/guarded/",
        b"/guarded/?status=400",
        b"/guarded/?status=404",
        b"/guarded/?status=500",
        b"/plain/",
        b"/streaming/",
    ]
    statuses = [status_of(server.send(header(key), path=path)) for path in paths]
    assert statuses == [200, 400, 404, 500, 200, 200]
    assert become([("used", "", "TTS", status) for status in statuses]), rows()


@on_both
def test_many_clients_at_once_are_counted_exactly(server: Server, key: APIKey) -> None:
    wrong = b"X-API-Key: " + b"0" * 40
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda line: status_of(server.send(line)), [header(key), wrong] * 50))
    assert statuses == [200, 401] * 50
    assert eventually(lambda: AuditEvent.objects.filter(event="used", status=200).count() == 50)
    assert eventually(lambda: sum(AuditEvent.objects.filter(event="refused").values_list("count", flat=True)) == 50)
    assert AuditEvent.objects.filter(event="refused").count() <= 12


@pytest.mark.parametrize(
    "path", [b"/killed/", b"/killed-named-late/", b"/killed-by-property/", b"/killed-in-a-partial/"]
)
def test_a_worker_that_is_killed_in_the_view_leaves_its_row(gunicorn: Server, key: APIKey, path: bytes) -> None:
    # In the transaction of its view, which goes down with it.
    assert gunicorn.send(header(key), path=path) == b""
    assert rows() == [("used", "", "TTS", None)]
    assert AuditEvent.objects.died().count() == 1
    assert status_of(gunicorn.send(header(key))) == 200


def test_also_where_only_an_earlier_request_has_shown_that_a_key_is_asked_for(key: APIKey) -> None:
    with serving(GUNICORN, settings="tests.settings_atomic") as server:
        assert status_of(server.send(header(key), path=b"/killed-in-another/")) == 200
        assert server.send(header(key), path=b"/killed-in-another/?die=1") == b""
        assert become([("used", "", "TTS", 200), ("used", "", "TTS", None)]), rows()


def test_a_server_that_is_killed_in_the_view_leaves_its_row(key: APIKey) -> None:
    with serving(UVICORN) as server:
        assert server.send(header(key), path=b"/killed/") == b""
        assert server.process.wait(SECONDS_TO_WAIT) == -signal.SIGKILL
    assert rows() == [("used", "", "TTS", None)]


def test_a_server_that_is_stopped_leaves_no_outcome_behind(key: APIKey) -> None:
    with serving(GUNICORN) as server:
        for _ in range(20):
            assert status_of(server.send(header(key))) == 200
    assert rows() == [("used", "", "TTS", 200)] * 20


def hang_up(server: Server, key: APIKey, path: bytes, after: bytes) -> None:
    """Read an answer up to some bytes of it, and be gone."""
    with server.connect() as client:
        client.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n" + header(key) + b"\r\n\r\n")
        got = b""
        while after not in got:
            part = client.recv(65_536)
            assert part
            got += part


@pytest.mark.parametrize(
    ("server", "path"), [("gunicorn", b"/endless/"), ("uvicorn", b"/endless-async/")], indirect=["server"]
)
def test_a_client_that_hangs_up_in_a_stream(server: Server, key: APIKey, path: bytes) -> None:
    hang_up(server, key, path, after=b"xxx")
    assert become([("used", "", "TTS", 499)]), rows()
    assert status_of(server.send(header(key))) == 200


def test_a_client_that_hangs_up_before_the_first_part_of_a_stream(uvicorn: Server, key: APIKey) -> None:
    hang_up(uvicorn, key, b"/silent-stream-async/", after=b"\r\n\r\n")
    assert become([("used", "", "TTS", 499)]), rows()


def test_a_client_that_hangs_up_before_the_answer(uvicorn: Server, key: APIKey) -> None:
    with uvicorn.connect() as client:
        client.sendall(b"GET /silent-async/ HTTP/1.1\r\nHost: localhost\r\n" + header(key) + b"\r\n\r\n")
        # The view is reached when its row is there.
        assert become([("used", "", "TTS", None)])
    assert become([("used", "", "TTS", 499)]), rows()


def test_clients_that_hang_up_at_any_moment(key: APIKey) -> None:
    # Also while the key is being looked up: whatever was recorded is finished, at the latest when the server ends.
    with serving(UVICORN) as server:
        for _ in range(40):
            with server.connect() as client:
                client.sendall(b"GET /silent-async/ HTTP/1.1\r\nHost: localhost\r\n" + header(key) + b"\r\n\r\n")
        assert status_of(server.send(header(key))) == 200
    assert set(rows()) <= {("used", "", "TTS", 499), ("used", "", "TTS", 200)}


@pytest.mark.parametrize(
    ("server", "path"),
    [("gunicorn", b"/streaming/?break=1"), ("uvicorn", b"/streaming/?break=1"),
     ("uvicorn", b"/streaming-async/?break=1")],
    indirect=["server"],
)  # fmt: skip
def test_a_stream_that_breaks(server: Server, key: APIKey, path: bytes) -> None:
    assert b"two" not in server.send(header(key), path=path)
    assert become([("used", "", "TTS", 500)]), rows()
    assert status_of(server.send(header(key))) == 200


@on_both
def test_what_is_not_read_to_its_end_has_its_own_status(server: Server, key: APIKey) -> None:
    assert status_of(server.send(header(key), path=b"/streaming/", method=b"HEAD")) == 200
    assert status_of(server.send(header(key), path=b"/download/")) == 200
    assert become([("used", "", "TTS", 200)] * 2), rows()


@on_both
def test_a_key_that_is_switched_off_elsewhere_is_refused_at_once(server: Server, key: APIKey) -> None:
    client = HTTPConnection(*server.address)
    for is_active, status in ((True, 200), (False, 401), (True, 200)):
        # As neither a signal nor a cache would notice it.
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE {APIKey._meta.db_table} SET is_active = %s", [is_active])
        client.request("GET", "/plain/", headers={"X-API-Key": str(key.key)})
        response = client.getresponse()
        response.read()
        assert response.status == status
    client.close()
