"""What arrives on the wire, byte for byte: awkward keys, repeated headers, forged addresses. Never a 500."""

from base64 import b64encode
from collections.abc import Iterator

import pytest

from keys.models import APIKey, AuditEvent
from tests.support.processes import eventually
from tests.support.servers import GUNICORN, UVICORN, Server, serving, status_of

pytestmark = [pytest.mark.matrix, pytest.mark.django_db(transaction=True)]

WRONG = b"0123456789abcdef0123456789abcdef01234567"
# A server may say no by itself, and hang up on what it cannot read.
REFUSED = {400, 401, 413, 431, 0}
PATHS = [b"/guarded/", b"/plain/", b"/plain-async/"]


@pytest.fixture(scope="module", params=[GUNICORN, UVICORN], ids=["gunicorn", "uvicorn"])
def server(request: pytest.FixtureRequest, django_db_setup: None) -> Iterator[Server]:
    with serving(request.param) as server:
        yield server


@pytest.fixture
def key() -> bytes:
    return str(APIKey.objects.create(name="TTS", scopes=["users:read"]).key).encode()


def test_a_good_key(server: Server, key: bytes) -> None:
    for path in PATHS:
        lines = (
            b"X-API-Key: " + key,
            b"x-api-key:" + key,
            b"X-API-KEY:  " + key + b"\t ",
            b"Authorization: api-KEY  " + key,
        )
        for line in lines:
            assert status_of(server.send(line, path=path)) == 200
        assert status_of(server.send(b"X-API-Key: " + key, b"Authorization: Api-Key " + key, path=path)) == 200
        assert status_of(server.send(b"X-API-Key: " + key, b"Authorization: Bearer abc", path=path)) == 200


@pytest.mark.parametrize("path", PATHS, ids=bytes.decode)
def test_the_answers_of_the_contract(server: Server, key: bytes, path: bytes) -> None:
    def told(*lines: bytes) -> tuple[int, bytes]:
        answer = server.send(*lines, path=path)
        assert b"\r\ncache-control: no-store\r\n" in answer.lower()
        assert b"x-api-key" in answer.lower().split(b"vary:")[1].split(b"\r\n")[0]
        return status_of(answer), answer.partition(b"\r\n\r\n")[2].replace(b'": "', b'":"')

    missing = b'{"detail":"Authentication credentials were not provided."}'
    assert told() == told(b"Authorization: Bearer abc") == told(b"Authorization: Basic YTpi") == (401, missing)
    assert told(b"X-API-Key: " + WRONG) == told(b"X-API-Key:") == (401, b'{"detail":"Invalid API key."}')
    conflict = (400, b'{"detail":"More than one API key was presented."}')
    assert told(b"X-API-Key: " + key, b"Authorization: Api-Key " + WRONG) == conflict
    for first, second in ((key, key), (key, WRONG), (WRONG, key), (key, b""), (b"", key)):
        assert told(b"X-API-Key: " + first, b"X-API-Key: " + second) == conflict
        assert told(b"Authorization: Api-Key " + first, b"Authorization: Api-Key " + second) == conflict
    for first, second in ((b"Bearer abc", b"Api-Key " + key), (b"Api-Key " + key, b"Bearer abc")):
        assert told(b"Authorization: " + first, b"Authorization: " + second) == conflict


def basic(text: bytes) -> bytes:
    return b"Authorization: Basic " + b64encode(text)


@pytest.mark.parametrize("path", [b"/several-places/", b"/several-places-async/"], ids=bytes.decode)
def test_several_places(server: Server, key: bytes, path: bytes) -> None:
    def status(*lines: bytes) -> int:
        return status_of(server.send(*lines, path=path))

    good = [b"x-api-key: " + key, b"X-API-Token:" + key, b"Authorization: TOKEN " + key, basic(b"somebody:" + key)]
    bad = [b"x-api-key: " + WRONG, b"X-API-Token:" + WRONG, b"Authorization: TOKEN " + WRONG, basic(b":" + WRONG)]
    assert [status(line) for line in good] == [200] * 4
    assert [status(*good[:2], line) for line in good[2:]] == [200] * 2
    assert [status(line) for line in bad] == [401] * 4
    assert [status(one, other) for one in good for other in bad] == [400] * 16
    # Two lines of one header, whatever they hold.
    assert [status(one, other) for one in good[2:] for other in (*good[2:], b"Authorization: Bearer abc")] == [400] * 6
    awkward = [b"", b":", b":" + key + b"\x00", b"\xff\xfe:" + key, key, b"a:" + b"k" * 6_000]
    assert [status(basic(text)) for text in awkward] == [401] * len(awkward)
    for value in (b"", b" ", b"!", b"\xff", b"YTp", b"YTpi YTpi", b"Y" * 1_000_000):
        assert status(b"Authorization: Basic " + value) in REFUSED, value[:40]
    challenges = b'\r\nwww-authenticate: api-key realm="api", token realm="api", basic realm="api", charset="utf-8"\r\n'
    assert challenges in server.send(path=path).lower()


def test_awkward_keys(server: Server, key: bytes) -> None:
    values = [
        b"", b" ", b"\t", b"a" * 129, b"a" * 1_000_000, b"," * 100_000, b"\xff\xfe\x80", b"caf\xe9",
        "😀".encode() * 10, b"\x00",
        key + b"\x00", b"\x00" + key, key + b"\r", key + b"\r\n folded", key + b"\x0b", b"\x1b[31m",
        key + b"\xa0", key + b"\x85", b"\x7f", key.upper(), key[:-1], key + b"0", key + b"%00", b"%s" * 20,
        b"' OR 1=1 --",
    ]  # fmt: skip
    for value in values:
        for line, path in ((b"X-API-Key: ", b"/guarded/"), (b"Authorization: Api-Key ", b"/plain-async/")):
            status = status_of(server.send(line + value, path=path))
            assert status in REFUSED, (status, value[:40])
    # To some servers a mere line feed ends a header too.
    assert status_of(server.send(b"X-API-Key: " + key + b"\nX-Evil: 1")) in {*REFUSED, 200}
    assert status_of(server.send(b"X-API-Key: " + key)) == 200


def test_awkward_places(server: Server, key: bytes) -> None:
    elsewhere = [
        server.send(path=b"/guarded/?X-API-Key=" + key + b"&key=" + key),
        server.send(b"Cookie: X-API-Key=" + key),
        server.send(b"X_API_Key: " + key),
        server.send(b"X-API-Key : " + key),
        server.send(b"HTTP_X_API_KEY: " + key),
        server.send(b"Content-Length: 40\r\n\r\n" + key, method=b"POST"),
    ]
    assert {status_of(answer) for answer in elsewhere} <= REFUSED


def test_the_rest_of_a_request_is_awkward(server: Server, key: bytes) -> None:
    good = b"X-API-Key: " + key
    lines = [b"User-Agent: \xff\xfe\x80", b"User-Agent: " + "😀".encode(), b"X-Request-ID: " + b"a" * 5_000,
             b"X-Request-ID: \x1b[2J",
             b"X-Forwarded-For: " + b"1.2.3.4, " * 800, b"X-Forwarded-For: \xff", b"Referer: " + key]  # fmt: skip
    for line in lines:
        assert status_of(server.send(good, line)) in {200, 400}, line
    for piece in (b"%00", b"%ff%fe", b"%0a%0d", b"%F0%9F%98%80", b"%25", b"a" * 3_000, b"%E2%80%AE"):
        assert status_of(server.send(good, path=b"/guarded/" + piece + b"/")) in {200, 400, 404}, piece
    assert status_of(server.send(good, method=b"BREW")) in {405, 400}
    # Each is a finished row that can be read.
    assert eventually(lambda: not AuditEvent.objects.died().exists())
    for event in AuditEvent.objects.exclude(method=""):
        assert all(text.isprintable() for text in (event.path, event.user_agent, event.request_id, event.method))


@pytest.mark.parametrize("command", [GUNICORN, UVICORN], ids=["gunicorn", "uvicorn"])
def test_the_secret_is_nowhere(command: tuple[str, ...], key: bytes) -> None:
    # A server of its own: the one of the other tests counts its strangers, whose rows were flushed after each test.
    with serving(command) as server:
        for sent in (key, WRONG):
            server.send(
                b"X-API-Key: " + sent, b"User-Agent: curl " + sent, b"X-Request-ID: " + sent, b"Referer: " + sent,
                path=b"/guarded/" + sent + b"/?key=" + sent,
            )  # fmt: skip
    events = list(AuditEvent.objects.exclude(method="").values())
    assert len(events) == 2
    for event in events:
        assert event["path"] == "/guarded/********/"
        assert key.decode() not in str(event)
        assert WRONG.decode() not in str(event)


def test_forged_addresses(server: Server, key: bytes) -> None:
    APIKey.objects.update(allowed_ips=["10.0.0.0/8"])
    for line in (b"X-Forwarded-For: 10.0.0.1", b"X-Real-IP: 10.0.0.1", b"Forwarded: for=10.0.0.1",
                     b"Remote-Addr: 10.0.0.1",
                 b"X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-For: 10.0.0.2"):  # fmt: skip
        assert status_of(server.send(b"X-API-Key: " + key, line)) == 401
    assert set(AuditEvent.objects.filter(event="refused").values_list("reason", "address")) == {
        ("address", "127.0.0.1")
    }
    APIKey.objects.update(allowed_ips=["127.0.0.0/8"])
    assert status_of(server.send(b"X-API-Key: " + key, b"X-Forwarded-For: 6.6.6.6")) == 200
