"""The same cases for each proxy, with the example's configuration, before a service that knows nothing of keys."""

import hashlib
import http.client
import json
import random
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import QuerySet
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from example_project.gateway.running import gateway_running, program_of
from keys.models import APIKey, AuditEvent
from keys.models.audit_event import STRANGERS
from keys.verification import UNAVAILABLE_DETAIL
from tests.gateway.test_nginx import FORGED, INVALID, Headers, Site
from tests.support.gateways import AuthService, auth_service, require_proxy
from tests.support.guarded_service import BODY, OWN_BODY, GuardedService, guarded_service
from tests.support.processes import SECONDS_TO_WAIT
from tests.support.recording_service import Answer as Said
from tests.support.recording_service import RecordingService, redirect
from tests.support.servers import received as taken
from tests.support.servers import status_of
from tests.support.tables import renamed

pytestmark = [pytest.mark.matrix, pytest.mark.django_db(transaction=True)]

PROXIES = ("nginx.conf", "Caddyfile", "haproxy.cfg", "envoy.yaml")
# What Envoy makes of paths that are others to some services.
ORDERS_WITHIN = dict.fromkeys(("/users/../orders/7", "/users/%2E./orders/7", "/users/..;/orders/7"), "/orders/7")
ORDERS_WITHIN |= dict.fromkeys(("//orders/users/7", "/\\orders/users/7"), "/orders/users/7")
UNAVAILABLE = {"detail": UNAVAILABLE_DETAIL}
MISSING = {"detail": "Authentication credentials were not provided."}
REPEATED = {"detail": "More than one API key was presented."}


@pytest.fixture(scope="module")
def services(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[tuple[AuthService, GuardedService]]:
    with django_db_blocker.unblock(), auth_service() as auth, guarded_service() as service:
        yield auth, service


@pytest.fixture(scope="module", params=PROXIES)
def proxy(request: pytest.FixtureRequest) -> str:
    configuration: str = request.param
    require_proxy(configuration)
    return configuration


@pytest.fixture(scope="module")
def site(services: tuple[AuthService, GuardedService], proxy: str) -> Iterator[Site]:
    with site_before(services[0], services[0].address, services[1], proxy) as running:
        yield running


@contextmanager
def site_before(auth: AuthService, address: str, service: GuardedService, proxy: str) -> Iterator[Site]:
    with gateway_running(proxy, auth_service=address, guarded_service=service.address) as gateway:
        yield Site(auth, service, gateway)
        print(gateway.log.read_text())


@pytest.fixture
def key() -> APIKey:
    return APIKey.objects.create(name="Billing & Co", scopes=["orders:*"])


def sent_raw(site: Site, *lines: str, body: bytes = b"") -> bytes:
    """Send header lines as they are, and return what is answered."""
    with closing(socket.create_connection(("127.0.0.1", site.gateway.port), SECONDS_TO_WAIT)) as client:
        client.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return taken(client)


def test_a_good_key_is_named_to_the_service_which_does_not_get_it(site: Site, key: APIKey) -> None:
    for name, value in (
        ("X-API-Key", key.key),
        ("Authorization", f"Api-Key {key.key}"),
        ("AUTHORIZATION", f"api-key  {key.key}"),
    ):
        for method in ("GET", "HEAD", "POST", "DELETE"):
            answer = site.ask((name, value), path="/orders/7/?secret=1", method=method)
            assert (answer.status, answer.body) == (200, b"" if method == "HEAD" else BODY)
            assert answer.headers.get_all("Vary") == ["X-API-Key, Authorization"]
            [received] = site.received_of(answer)
            assert (received.method, received.path) == (method, "/orders/7/?secret=1")
            told = [received.values(f"X-Key-{name}") for name in ("Name", "Prefix", "Scopes")]
            assert told == [["Billing%20%26%20Co"], [key.prefix], ["orders:*"]]
            assert received.values("X-Key-Owner") in ([], [""])
            assert key.key not in str(received.headers)
            row = answer.row
            assert (row.event, row.status, row.method, row.path) == ("used", 200, method, "/orders/7/")
            assert (row.endpoint, row.address, row.key_name) == ("gateway:orders.example", "127.0.0.1", "Billing & Co")


def test_a_token_of_a_user_reaches_the_service_but_not_with_two_of_the_header(site: Site, key: APIKey) -> None:
    received = site.seen(("X-API-Key", key.key), ("Authorization", "Bearer of-a-user"))
    assert received.values("Authorization") == ["Bearer of-a-user"]
    assert received.values("X-API-Key") == []
    answer = site.ask(("Authorization", f"Api-Key {key.key}"), ("Authorization", "Bearer of-a-user"))
    assert answer.status == 400  # nginx says so by itself
    assert site.received_of(answer) == []


def test_refusals_are_those_of_every_guard(site: Site, key: APIKey) -> None:
    other = APIKey.objects.create(name="Other", scopes=["users:read"])
    rated = APIKey.objects.create(name="Rated", scopes=["orders:*"], rate="1/day")
    elsewhere = APIKey.objects.create(name="Elsewhere", scopes=["orders:*"], allowed_ips=["203.0.113.0/24"])
    inactive = APIKey.objects.create(name="Inactive", scopes=["orders:*"])
    inactive.deactivate()
    expired = APIKey.objects.create(name="Expired", scopes=["orders:*"], expires_at=timezone.now() + timedelta(days=1))
    APIKey.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - timedelta(hours=1))
    assert site.ask(("X-API-Key", rated.key)).status == 200
    cases: list[tuple[Headers, int, Any, str | None]] = [
        ([], 401, MISSING, None),
        ([("Authorization", "Bearer of-a-user")], 401, MISSING, None),
        ([("X-API-Key", "0" * 40)], 401, INVALID, "unknown"),
        ([("X-API-Key", "né")], 401, INVALID, "malformed"),
        ([("X-API-Key", "")], 401, INVALID, "malformed"),
        ([("X-API-Key", "k" * 5000)], 401, INVALID, "malformed"),
        ([("X-API-Key", inactive.key)], 401, INVALID, "inactive"),
        ([("X-API-Key", expired.key)], 401, INVALID, "expired"),
        ([("X-API-Key", elsewhere.key), ("X-Forwarded-For", "203.0.113.7")], 401, INVALID, "address"),
        ([("X-API-Key", key.key), ("X-API-Key", other.key)], 400, REPEATED, "conflict"),
        ([("X-API-Key", key.key), ("X-API-Key", key.key)], 400, REPEATED, "conflict"),
        ([("X-API-Key", key.key), ("Authorization", f"Api-Key {other.key}")], 400, REPEATED, "conflict"),
        ([("X-API-Key", other.key)], 403, {"detail": "This API key lacks the scope “orders:read”."}, "scope"),
        ([("X-API-Key", rated.key)], 429, None, "rate"),
    ]
    for headers, status, body, reason in cases:
        for method in ("GET", "HEAD", "POST"):
            answer = site.ask(*headers, method=method, path="/orders/page.html", body=b"body" * (method == "POST"))
            assert answer.status == status, (headers, method, answer)
            if method != "HEAD":
                assert answer.headers["Content-Type"] == "application/json"
                told = json.loads(answer.body)
                assert told == (body or told), headers
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers.get_all("Vary") == ["X-API-Key, Authorization"]
            challenge = ['Api-Key realm="api"'] if status == 401 else None
            assert answer.headers.get_all("WWW-Authenticate") == challenge
            assert (answer.headers["Retry-After"] is not None) == (status == 429)
            assert site.received_of(answer) == []
            if reason is None:
                assert not AuditEvent.objects.filter(request_id=answer.request_id)
            elif reason not in STRANGERS:  # which share rows
                row = answer.row
                assert (row.event, row.reason, row.status) == ("refused", reason, status)
                assert (row.method, row.path, row.address) == (method, "/orders/page.html", "127.0.0.1")


def test_a_key_that_is_revoked_is_refused_from_the_next_request_of_a_connection_on(site: Site, key: APIKey) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", site.gateway.port, timeout=SECONDS_TO_WAIT)) as connection:
        connection.connect()
        kept = connection.sock
        statuses = []
        for _ in range(2):
            connection.request("GET", "/orders/7", headers={"X-API-Key": key.key})
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
            assert connection.sock is kept  # nobody has closed it
            key.deactivate()
    assert statuses == [200, 401]


def test_what_only_a_proxy_may_say_is_not_believed_from_a_client(site: Site, key: APIKey) -> None:
    forged = [pair for pair in FORGED.items() if pair[0] not in {"Host", "Cookie"}]
    spellings = [
        forged, forged * 2, [(name.upper(), value) for name, value in forged],
        # To servers all of them are the same header.
        [(name.replace("-", "_"), value) for name, value in forged],
        [(name.replace("-", "_", 1), value) for name, value in forged],
        # RFC 9110, 5.6.2 allows them, too.
        *([(name.replace("-", dash), value) for name, value in forged] for dash in "!#$%&'*+.^`|~"),
        [("X_Key-Name", "root"), ("x-key_scopes", "*"), ("X-Key.Owner", "root")],
    ]  # fmt: skip
    for headers in spellings:
        answer = site.ask(("X-API-Key", key.key), *headers)
        assert answer.status == 200, answer
        [received] = site.received_of(answer)
        assert not {value for _, value in received.headers} & {value for _, value in forged}
        assert not [name for name, _ in received.headers if re.search("[^A-Za-z0-9-]", name)]
        assert received.values("X-Forwarded-For") == ["127.0.0.1"]
        assert received.values("X-Key-Scopes") == ["orders:*"]
        row = answer.row
        assert (row.method, row.path, row.address) == ("GET", "/orders/7", "127.0.0.1")
        assert row.endpoint == "gateway:orders.example"


def test_a_key_in_a_header_that_is_spelled_in_another_way_is_none(site: Site, key: APIKey) -> None:
    for name in ("X_API_Key", "X.API.Key"):
        answer = site.ask((name, key.key))
        assert (answer.status, json.loads(answer.body)) == (401, MISSING)


def test_a_client_cannot_have_a_header_of_the_proxy_left_out(site: Site, key: APIKey) -> None:
    ours = "X-Key-Name, X-Key-Prefix, X-Key-Scopes, X-Key-Owner, X-Forwarded-For, X-Request-ID"
    answer = site.ask(("X-API-Key", key.key), ("Connection", f"keep-alive, {ours}"))
    assert answer.status in {200, 400}
    if answer.status == 200:
        [received] = site.received_of(answer)
        assert (received.values("X-Key-Scopes"), received.values("X-Forwarded-For")) == (["orders:*"], ["127.0.0.1"])
    else:
        assert site.received_of(answer) == []


def test_a_host_that_a_client_makes_up_is_not_in_the_log(site: Site, key: APIKey) -> None:
    answer = sent_raw(site, "GET /orders/ HTTP/1.1", "Host: evil.example", f"X-API-Key: {key.key}", "Connection: close")
    assert status_of(answer) == 200
    assert AuditEvent.objects.get(event="used").endpoint == "gateway:orders.example"


def test_a_question_has_neither_cookie_nor_body_and_no_connection_of_its_own(
    services: tuple[AuthService, GuardedService], proxy: str
) -> None:
    with RecordingService() as said:
        said.answers[question_of(proxy)] = [Said(200, NAMED, b"")]
        with site_before(services[0], said.url.removeprefix("http://"), services[1], proxy) as site:
            for _ in range(10):
                answer = site.ask(("X-API-Key", "k"), ("Cookie", "sessionid=0"), method="POST", body=b"0123456789")
                assert answer.status == 200
        for asked in said.received:
            assert (asked.body, asked.headers["Cookie"], asked.headers["Host"]) == (b"", None, "localhost")
            assert asked.headers["X-Request-ID"] in {received.request_id for received in services[1].received}
        assert len(said.received) == 10
        # Each process of a proxy keeps connections of its own.
        assert len({asked.client_port for asked in said.received}) < 10


def test_bodies_go_to_the_service_alone(site: Site, key: APIKey) -> None:
    body = random.Random(16).randbytes(10 * 1024 * 1024)
    answer = site.ask(("X-API-Key", key.key), method="PUT", body=body)
    [received] = site.received_of(answer)
    assert answer.status == 200
    assert (received.body_length, received.body_digest) == (len(body), hashlib.sha256(body).hexdigest())
    lines = ["PUT /orders/ HTTP/1.1", "Host: x", "Connection: close", "Transfer-Encoding: chunked"]
    chunks = b"3\r\none\r\n0\r\n\r\n"
    assert status_of(sent_raw(site, *lines, f"X-API-Key: {'0' * 40}", body=chunks)) == 401


def test_a_long_header_is_no_outage_and_many_scopes_fit_into_the_answer(site: Site, key: APIKey) -> None:
    for headers in ([("X-API-Key", "k" * 20_000)], [("X-API-Key", key.key), ("X-Other", "o" * 20_000)]):
        answer = site.ask(*headers)
        assert answer.status in {400, 431}
        assert site.received_of(answer) == []
    scopes = ["orders:read", *(f"resource{number}:action" for number in range(300))]
    many = APIKey.objects.create(name="Many", scopes=["orders:read"])
    QuerySet(APIKey).filter(pk=many.pk).update(scopes=scopes)
    assert site.seen(("X-API-Key", many.key)).values("X-Key-Scopes") == [" ".join(scopes)]


def test_a_connection_may_become_another_protocol(site: Site, key: APIKey) -> None:
    lines = ["GET /orders/ws HTTP/1.1", "Host: x", f"X-API-Key: {key.key}", "Connection: keep-alive, Upgrade"]
    lines += ["Upgrade: websocket", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13"]
    with closing(socket.create_connection(("127.0.0.1", site.gateway.port), SECONDS_TO_WAIT)) as client:
        client.sendall("\r\n".join([*lines, "", ""]).encode())
        with client.makefile("rb") as answer:
            assert answer.readline().split()[1] == b"101"
            assert list(iter(answer.readline, b"\r\n"))
            for said in (b"one\n", b"another\n"):
                client.sendall(said)
                assert answer.readline() == said


def test_no_client_speaks_to_the_service_past_the_proxy(site: Site, key: APIKey) -> None:
    for upgrade in (
        ["h2c"],
        ["h2c, websocket"],
        ["websocket, h2c"],
        ["h2c", "websocket"],
        ["other"],
        [""],
        ["TLS/1.0"],
    ):
        lines = ["GET /orders/7 HTTP/1.1", "Host: x", f"X-API-Key: {key.key}", "Connection: Upgrade, HTTP2-Settings"]
        lines += ["HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA", *(f"Upgrade: {value}" for value in upgrade)]
        before = len(site.service.received)
        with closing(socket.create_connection(("127.0.0.1", site.gateway.port), SECONDS_TO_WAIT)) as client:
            client.sendall("\r\n".join([*lines, "", ""]).encode())
            with client.makefile("rb") as answer:
                assert answer.readline()
        for received in site.service.received[before:]:
            # Of two, Caddy takes the one that is allowed.
            told = received.values("Upgrade")
            assert told == [] or (told == ["websocket"] and len(upgrade) == 2), (upgrade, told)


def test_an_answer_of_the_service_passes_as_it_is(site: Site, key: APIKey) -> None:
    for status in (301, 400, 401, 403, 404, 418, 429, 500, 502, 503, 504):
        answer = site.ask(("X-API-Key", key.key), path=f"/orders/status/{status}")
        assert (answer.status, answer.body) == (status, OWN_BODY)
        assert answer.headers.get_all("WWW-Authenticate") == ["Bearer"]
        assert answer.headers.get_all("Retry-After") == ["7"]
        assert answer.headers.get_all("Cache-Control") == ["max-age=60"]
        # What is on record is what the door said.
        assert answer.row.status == 200


def test_a_request_without_an_id_gets_one_for_the_log_and_the_service(site: Site, key: APIKey) -> None:
    lines = ["GET /orders/ HTTP/1.1", "Host: x", f"X-API-Key: {key.key}", "Connection: close"]
    assert status_of(sent_raw(site, *lines)) == 200
    request_id = site.service.received[-1].request_id
    assert len(request_id) >= 32
    assert AuditEvent.objects.filter(request_id=request_id).count() == 1


def test_a_path_that_is_not_named_or_another_one_to_some_is_not_there(site: Site, key: APIKey) -> None:
    paths = ["/orders/../users", "/users/../orders/7", "/orders/%2e%2e/users", "/users/%2E./orders/7"]
    # Of Java's servers and of Windows, and of what takes the beginning for a host.
    paths += ["/orders/..;/users", "/orders/%2e.;a=b/users", "/orders/..%3b/users", "/users/..;/orders/7"]
    paths += ["/orders/..\\users", "/orders/%5c..%5Cusers", "/users%5C..%5corders/7", "/orders/..%2fusers"]
    paths += ["//orders/users/7", "/\\orders/users/7", "/%2forders/users/7", "/%5Corders/7"]
    for path in paths:
        answer = site.ask(("X-API-Key", key.key), path=path)
        # Envoy alone makes it what it becomes.
        passed = [ORDERS_WITHIN[path]] if answer.status == 200 else []
        assert answer.status in {200, 400, 404}, path
        assert [received.path for received in site.received_of(answer)] == passed, path
    for path in ("/", "/gateway/", "/users/7"):
        assert site.ask(("X-API-Key", key.key), path=path).status == 404


def test_without_keys_or_log_nothing_passes(site: Site, key: APIKey) -> None:
    for table in ("keys_apikey", "keys_auditevent"):
        with renamed(table):
            for method in ("GET", "HEAD"):
                answer = site.ask(("X-API-Key", key.key), method=method)
                assert answer.status == 503
                assert method == "HEAD" or json.loads(answer.body) == UNAVAILABLE
                assert site.received_of(answer) == []


NAMED = {"X-Key-Name": "Billing", "X-Key-Prefix": "p", "X-Key-Scopes": "*", "X-Key-Owner": ""}
REFUSAL = json.dumps(INVALID)
# None closes the connection.
NOT_THE_DOORS = [
    Said(200), Said(204), Said(200, {"X-Key-Scopes": "*"}), redirect("/login/"), redirect("/login/", 307),
    Said(400), Said(401, {"WWW-Authenticate": "Basic"}), Said(403), Said(404, {"X-Key-Refusal": REFUSAL}), Said(418),
    Said(429, {"Retry-After": "1"}), Said(500), Said(502), Said(503), Said(504), None,
]  # fmt: skip


def question_of(proxy: str) -> str:
    """Return the address that the auth service is asked at."""
    return {
        "envoy.yaml": "/envoy/orders/7",
        "Caddyfile": "/gateway/?scope=orders%3Aread",
    }.get(proxy, "/gateway/?scope=orders:read")


def test_what_the_door_would_not_say_opens_nothing_and_is_no_refusal(
    services: tuple[AuthService, GuardedService], proxy: str
) -> None:
    forged = (("X-API-Key", "a-secret-of-the-client"), ("X-Key-Name", "root"), ("X-Key-Refusal", REFUSAL))
    with RecordingService() as said:
        said.answers[question_of(proxy)] = [*NOT_THE_DOORS, Said(200)]
        with site_before(services[0], said.url.removeprefix("http://"), services[1], proxy) as site:
            for sent in NOT_THE_DOORS:
                answer = site.ask(*forged)
                assert (answer.status, json.loads(answer.body)) == (503, UNAVAILABLE), sent
                assert answer.headers["Cache-Control"] == "no-store"
                assert site.received_of(answer) == []
            said.stop()
            answer = site.ask(*forged)
            assert (answer.status, json.loads(answer.body)) == (503, UNAVAILABLE)
            assert "a-secret-of-the-client" not in site.gateway.log.read_text()


def test_an_auth_service_that_does_not_answer_is_waited_for_for_a_while(
    services: tuple[AuthService, GuardedService],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ExitStack() as running:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        # All at once, as each waits.
        here = [proxy for proxy in PROXIES if program_of(proxy) is not None]
        sites = [running.enter_context(site_before(services[0], address, services[1], proxy)) for proxy in here]
        with ThreadPoolExecutor() as threads:
            answers = list(threads.map(lambda site: site.ask(("X-API-Key", "k")), sites))
        for answer in answers:
            assert (answer.status, json.loads(answer.body)) == (503, UNAVAILABLE)
            assert sites[0].received_of(answer) == []
