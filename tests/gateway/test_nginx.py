"""A real nginx with the example's configuration, between clients and a service that knows nothing of keys."""

import http.client
import json
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import pytest
from django.db.models import QuerySet
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from example_project.gateway.running import FOLDER, Gateway, GatewayError, configured, gateway_running
from keys.models import APIKey, AuditEvent
from keys.models.audit_event import STRANGERS
from keys.verification import UNAVAILABLE_DETAIL
from tests.docs.pages import section
from tests.support.gateways import AuthService, auth_service, require_proxy
from tests.support.guarded_service import BODY, GuardedService, Received, guarded_service
from tests.support.processes import SECONDS_TO_WAIT, eventually
from tests.support.recording_service import Answer as Said
from tests.support.recording_service import RecordingService, redirect
from tests.support.servers import received as taken

pytestmark = [pytest.mark.matrix, pytest.mark.django_db(transaction=True)]

Headers = Sequence[tuple[str, str]]
INVALID = {"detail": "Invalid API key."}


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes
    request_id: str

    @property
    def row(self) -> AuditEvent:
        """Its only row, with the outcome, which is written behind the answer."""
        rows = AuditEvent.objects.filter(request_id=self.request_id)
        assert eventually(lambda: not rows.filter(status=None).exists())
        row: AuditEvent = rows.get()
        return row


@dataclass
class Site:
    auth: AuthService
    service: GuardedService
    gateway: Gateway

    def ask(self, *headers: tuple[str, str], method: str = "GET", path: str = "/orders/7", body: bytes = b"") -> Answer:
        """Send a request with an id, and these headers as they are."""
        request_id = uuid4().hex
        with closing(http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=SECONDS_TO_WAIT)) as connection:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in (*headers, ("X-Request-ID", request_id)):
                connection.putheader(name, value)
            if body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read(), request_id)

    def received_of(self, answer: Answer) -> list[Received]:
        return [received for received in self.service.received if received.request_id == answer.request_id]

    def seen(self, *headers: tuple[str, str], **request: Any) -> Received:
        """Send a request, and return what the service got."""
        answer = self.ask(*headers, **request)
        assert answer.status == 200, answer
        [received] = self.received_of(answer)
        return received


@pytest.fixture(scope="module")
def site(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Site]:
    require_proxy("nginx.conf")
    with django_db_blocker.unblock(), auth_service() as auth, guarded_service() as service:
        addresses = {"auth_service": auth.address, "guarded_service": service.address}
        with gateway_running("nginx.conf", **addresses) as gateway:
            yield Site(auth, service, gateway)
            print(gateway.log.read_text())


@pytest.fixture
def key() -> APIKey:
    return APIKey.objects.create(name="Billing & Co", scopes=["orders:*"])


def test_a_good_key_is_named_to_the_service_which_does_not_get_it(site: Site, key: APIKey) -> None:
    for name, value in (("X-API-Key", key.key), ("Authorization", f"Api-Key {key.key}")):
        answer = site.ask((name, value), path="/orders/a%2Fb/?page=2")
        assert (answer.status, answer.body) == (200, BODY)
        assert answer.headers.get_all("Vary") == ["X-API-Key, Authorization"]
        [received] = site.received_of(answer)
        assert received.path == "/orders/a%2Fb/?page=2"
        named = {name: value for name, value in received.headers if name.startswith("X-Key-")}
        assert named == {"X-Key-Name": "Billing%20%26%20Co", "X-Key-Prefix": key.prefix, "X-Key-Scopes": "orders:*"}
        assert key.key not in str(received.headers)
        row = answer.row
        assert (row.event, row.status, row.method, row.path) == ("used", 200, "GET", "/orders/a/b/")
        assert (row.endpoint, row.address, row.key_name) == ("gateway:orders.example", "127.0.0.1", "Billing & Co")


def test_a_token_of_a_user_reaches_the_service(site: Site, key: APIKey) -> None:
    received = site.seen(("X-API-Key", key.key), ("Authorization", "Bearer of-a-user"))
    assert received.values("Authorization") == ["Bearer of-a-user"]
    assert received.values("X-API-Key") == []


def test_refusals_are_those_of_every_guard(site: Site, key: APIKey) -> None:
    other = APIKey.objects.create(name="Other", scopes=["users:read"])
    rated = APIKey.objects.create(name="Rated", scopes=["orders:*"], rate="1/hour")
    expired = APIKey.objects.create(
        name="Expired", scopes=["orders:*"], expires_at=timezone.now() + timedelta(seconds=1)
    )
    APIKey.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - timedelta(hours=1))
    assert site.ask(("X-API-Key", rated.key)).status == 200
    missing = {"detail": "Authentication credentials were not provided."}
    repeated = {"detail": "More than one API key was presented."}
    cases: list[tuple[Headers, int, Any, str | None]] = [
        ([], 401, missing, None),
        ([("Authorization", "Bearer of-a-user")], 401, missing, None),
        ([("X-API-Key", "0" * 40)], 401, INVALID, "unknown"),
        ([("X-API-Key", "né")], 401, INVALID, "malformed"),
        ([("X-API-Key", "")], 401, INVALID, "malformed"),
        ([("X-API-Key", "k" * 8000)], 401, INVALID, "malformed"),
        ([("X-API-Key", expired.key)], 401, INVALID, "expired"),
        ([("X-API-Key", key.key), ("X-API-Key", other.key)], 400, repeated, "conflict"),
        ([("X-API-Key", key.key), ("X-API-Key", key.key)], 400, repeated, "conflict"),
        ([("X-API-Key", key.key), ("Authorization", f"Api-Key {other.key}")], 400, repeated, "conflict"),
        ([("X-API-Key", other.key)], 403, {"detail": "This API key lacks the scope “orders:read”."}, "scope"),
        ([("X-API-Key", rated.key)], 429, None, "rate"),
    ]  # fmt: skip
    told_of: dict[str, int] = {}
    for headers, status, body, reason in cases:
        for method in ("GET", "HEAD", "POST"):
            # A name by which nginx would give the answer another type.
            answer = site.ask(*headers, method=method, path="/orders/page.html")
            told = json.loads(answer.body) if method != "HEAD" else body
            assert (answer.status, told) == (status, body or told), (headers, method)
            assert answer.headers["Content-Type"] == "application/json"
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers.get_all("Vary") == ["X-API-Key, Authorization"]
            challenge = ['Api-Key realm="api"'] if status == 401 else None
            assert answer.headers.get_all("WWW-Authenticate") == challenge
            assert (answer.headers["Retry-After"] is not None) == (status == 429)
            assert site.received_of(answer) == []
            if reason in STRANGERS:
                told_of[reason] = told_of.get(reason, 0) + 1
            elif reason is None:
                assert not AuditEvent.objects.filter(request_id=answer.request_id)
            else:
                row = answer.row
                assert (row.event, row.reason, row.status) == ("refused", reason, status)
                assert (row.method, row.path) == (method, "/orders/page.html")
    # nginx takes this header once.
    twice = site.ask(("Authorization", f"Api-Key {key.key}"), ("Authorization", "Bearer of-a-user"))
    assert (twice.status, site.received_of(twice)) == (400, [])
    # Behind the first five they share a row, with their number.
    refused = AuditEvent.objects.filter(event="refused")
    for reason, times in told_of.items():
        rows = refused.filter(reason=reason)
        assert eventually(partial(counts_to, rows, times)), reason


def counts_to(rows: QuerySet[AuditEvent], number: int) -> bool:
    return sum(row.count for row in rows.all()) == number


FORGED = {
    "Cookie": "sessionid=0", "Forwarded": "for=192.0.2.1;host=evil.example", "Host": "evil.example",
    "X-Key-Name": "root", "X-Key-Prefix": "root", "X-Key-Scopes": "*", "X-Key-Owner": "auth.User:1",
    "X-Key-Refusal": '{"detail": "forged"}', "X-Forwarded-For": "192.0.2.1", "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Method": "DELETE", "X-Forwarded-Port": "1", "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Proto": "gopher", "X-Forwarded-Protocol": "ssl", "X-Forwarded-Scheme": "gopher",
    "X-Forwarded-Server": "evil.example", "X-Forwarded-Ssl": "on", "X-Forwarded-Uri": "/evil",
    "X-Original-Host": "evil.example", "X-Original-Method": "DELETE", "X-Original-URI": "/evil",
    "X-Original-URL": "/evil", "X-Real-IP": "192.0.2.1", "X-Rewrite-URL": "/evil",
}  # fmt: skip


def test_what_only_a_proxy_may_say_is_not_believed_from_a_client(site: Site, key: APIKey) -> None:
    dashed = [("X-API-Key", key.key), *FORGED.items()]
    # Servers hold both spellings under one name.
    underscored = [("X-API-Key", key.key), *((name.replace("-", "_"), value) for name, value in FORGED.items())]
    del underscored[[name for name, _ in underscored].index("Host")]
    for headers in (dashed, [*dashed, *FORGED.items()], underscored):
        # http.client names the host itself.
        sent = [pair for pair in headers if pair[0] not in {"Host", "Cookie"}]
        answer = site.ask(*sent, ("Cookie", FORGED["Cookie"]))
        assert answer.status == 200, answer
        [received] = site.received_of(answer)
        proxys = {
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "X-Forwarded-Proto",
            "X-Key-Name",
            "X-Key-Prefix",
            "X-Key-Scopes",
        }
        told = {name for name, _ in received.headers if name.replace("_", "-") in FORGED}
        # Cookies are the service's own.
        assert told == {*proxys, "Cookie", "Host", "X-Real-IP"}
        assert {value for _, value in received.headers} & {*FORGED.values()} == {FORGED["Cookie"]}
        row = answer.row
        assert (row.method, row.path, row.address) == ("GET", "/orders/7", "127.0.0.1")
        assert row.endpoint == "gateway:orders.example"


def test_a_host_that_a_client_makes_up_is_not_in_the_log(site: Site, key: APIKey) -> None:
    with closing(socket.create_connection(("127.0.0.1", site.gateway.port), SECONDS_TO_WAIT)) as client:
        lines = ["GET /orders/ HTTP/1.1", "Host: evil.example", f"X-API-Key: {key.key}", "Connection: close", "", ""]
        client.sendall("\r\n".join(lines).encode())
        assert taken(client).startswith(b"HTTP/1.1 200")
    assert AuditEvent.objects.get(event="used").endpoint == "gateway:orders.example"


def test_bodies_go_to_the_service_alone(site: Site, key: APIKey) -> None:
    body = b"0123456789" * 1_048_576
    answer = site.ask(("X-API-Key", key.key), method="PUT", body=body)
    [received] = site.received_of(answer)
    assert (answer.status, received.body_length) == (200, len(body))
    refused = site.ask(("X-API-Key", "0" * 40), method="PUT", body=body)
    assert (refused.status, json.loads(refused.body)) == (401, INVALID)
    with closing(socket.create_connection(("127.0.0.1", site.gateway.port), SECONDS_TO_WAIT)) as client:
        lines = ["PUT /orders/ HTTP/1.1", "Host: x", f"X-API-Key: {key.key}", "Connection: close"]
        client.sendall("\r\n".join([*lines, "Transfer-Encoding: chunked", "", "3", "one", "0", "", ""]).encode())
        assert taken(client).startswith(b"HTTP/1.1 200")
    assert site.service.received[-1].body_length == 3
    assert site.ask(("X-API-Key", key.key), method="PUT", body=body * 3).status == 413


def test_a_request_without_an_id_gets_one_for_the_log_and_the_service(site: Site, key: APIKey) -> None:
    for own in (None, "", "i d", "i" * 65):
        headers = [] if own is None else [f"X-Request-ID: {own}"]
        with closing(socket.create_connection(("127.0.0.1", site.gateway.port), SECONDS_TO_WAIT)) as client:
            lines = ["GET /orders/ HTTP/1.1", "Host: x", f"X-API-Key: {key.key}", "Connection: close", *headers, "", ""]
            client.sendall("\r\n".join(lines).encode())
            assert taken(client).startswith(b"HTTP/1.1 200")
        request_id = site.service.received[-1].request_id
        assert len(request_id) == 32
        assert AuditEvent.objects.filter(request_id=request_id).count() == 1


def test_long_addresses_are_cut_for_the_log_alone(site: Site, key: APIKey) -> None:
    for length in (300, 4100, 8000):
        path = f"/orders/{'p' * length}?{'q' * 20}"
        assert site.seen(("X-API-Key", key.key), path=path).path == path
    answer = site.ask(("X-API-Key", key.key), path=f"/orders/?{'q' * 7900}")
    assert (answer.status, answer.row.path) == (200, "/orders/")
    assert site.ask(("X-API-Key", key.key), path=f"/orders/{'p' * 9000}").status == 414


def test_many_scopes_fit_into_the_answer(site: Site) -> None:
    scopes = ["orders:read", *(f"resource{number}:action" for number in range(300))]
    key = APIKey.objects.create(name="Many", scopes=["orders:read"])
    QuerySet(APIKey).filter(pk=key.pk).update(scopes=scopes)
    assert site.seen(("X-API-Key", key.key)).values("X-Key-Scopes") == [" ".join(scopes)]


def test_a_connection_may_become_another_protocol_and_an_answer_may_be_a_stream(site: Site, key: APIKey) -> None:
    upgrade = ["GET /orders/ws HTTP/1.1", "Host: x", f"X-API-Key: {key.key}", "Connection: Upgrade"]
    with closing(socket.create_connection(("127.0.0.1", site.gateway.port), SECONDS_TO_WAIT)) as client:
        client.sendall("\r\n".join([*upgrade, "Upgrade: websocket", "", ""]).encode())
        with client.makefile("rb") as answer:
            assert answer.readline().split()[1] == b"101"
            assert list(iter(answer.readline, b"\r\n"))
            for said in (b"one\n", b"another\n"):
                client.sendall(said)
                assert answer.readline() == said
    site.service.released.clear()
    with closing(http.client.HTTPConnection("127.0.0.1", site.gateway.port, timeout=SECONDS_TO_WAIT)) as connection:
        connection.request("GET", "/orders/stream", headers={"X-API-Key": key.key})
        stream = connection.getresponse()
        assert stream.readline() == b"first\n"
        site.service.released.set()
        assert stream.read() == b"second\n"


@pytest.fixture
def said() -> Iterator[RecordingService]:
    """Something else in the place of the auth service."""
    with RecordingService() as service:
        yield service


REFUSAL = json.dumps(INVALID)
NOT_THE_DOORS = [
    Said(200), Said(204), Said(200, {"X-Key-Scopes": "*"}), redirect("/login/"), redirect("/login/", 307),
    Said(400), Said(401, {"WWW-Authenticate": "Basic"}), Said(403), Said(404, {"X-Key-Refusal": REFUSAL}), Said(418),
    Said(429, {"Retry-After": "1"}), Said(500), Said(502), Said(503), Said(504), None,
    Said(403, {"X-Key-Refusal": "x" * 40_000}), Said(401, {"X-Key-Refusal": "no JSON"}),
]  # fmt: skip


def test_what_the_door_would_not_say_opens_nothing_and_is_no_refusal(
    site: Site, said: RecordingService, key: APIKey
) -> None:
    said.answers["/gateway/?scope=orders:read"] = [*NOT_THE_DOORS]
    with gateway_running(
        "nginx.conf", auth_service=said.url.removeprefix("http://"), guarded_service=site.service.address
    ) as gateway:
        elsewhere = Site(site.auth, site.service, gateway)
        for sent in NOT_THE_DOORS:
            answer = elsewhere.ask(("X-API-Key", key.key))
            assert (answer.status, json.loads(answer.body)) == (503, {"detail": UNAVAILABLE_DETAIL}), sent
            assert answer.headers["Cache-Control"] == "no-store"
            assert site.received_of(answer) == []
        assert len(said.received) == len(NOT_THE_DOORS)  # nothing is asked twice
        said.stop()
        answer = elsewhere.ask(("X-API-Key", key.key))
        assert (answer.status, json.loads(answer.body)) == (503, {"detail": UNAVAILABLE_DETAIL})


def test_what_no_location_names_is_not_there(site: Site, key: APIKey) -> None:
    for path in ("/", "/_key", "/gateway/", "/orders/../_key"):
        assert site.ask(("X-API-Key", key.key), path=path).status == 404


@pytest.fixture
def files() -> Iterator[Path]:
    """A folder that everybody may read, as root's nginx works as somebody else."""
    with TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "page").mkdir()
        (folder / "page" / "index.html").write_text("a page")
        folder.chmod(0o755)
        yield folder


def test_the_manual_holds_the_configuration_and_its_additions_work(site: Site, files: Path) -> None:
    """A scope by method, two scopes at once, files, and the address that a load balancer tells."""
    text, by_method, behind_balancer = (shown.text for shown in section("docs/gateway.md", "## nginx").blocks)
    assert text == (FOLDER / "nginx.conf").read_text()
    by_scope, by_location = re.split(r"(?=^location)", by_method, flags=re.MULTILINE)
    added = f"""
        {by_location}
        location /both/ {{
            set $key_scope "orders:read&scope=invoices:read";
            proxy_pass $key_opens://orders;
        }}
        location /page {{
            set $key_scope orders:read;
            root {files};
            try_files $uri $uri/index.html =404;
        }}
        location /nobody/ {{
            proxy_pass $key_opens://orders;
        }}
        location / {{"""
    text = text.replace("\n        location / {", added)
    text = text.replace("http {", f"http {{ {by_scope} {behind_balancer.replace('10.0.0.0/8', '127.0.0.1')}", 1)
    text = text.replace("    server {", f"    upstream invoices {{ server {site.service.address}; }}\n    server {{", 1)
    reader, both = (APIKey.objects.create(name=name) for name in ("Reader", "Both"))
    QuerySet(APIKey).filter(name="Reader").update(scopes=["invoices:read"])
    QuerySet(APIKey).filter(name="Both").update(scopes=["*"])
    with gateway_running(
        "nginx.conf", text, auth_service=site.auth.address, guarded_service=site.service.address
    ) as gateway:
        other = Site(site.auth, site.service, gateway)
        expected: list[tuple[APIKey, str, str, int]] = [
            (reader, "GET", "/invoices/", 200), (reader, "HEAD", "/invoices/", 200), (reader, "PUT", "/invoices/", 403),
            (both, "DELETE", "/invoices/", 200), (reader, "GET", "/both/", 403), (both, "GET", "/both/", 200),
            (both, "GET", "/page", 200), (reader, "GET", "/page", 403), (both, "GET", "/page/none", 404),
            (both, "GET", "/nobody/", 403),
        ]  # fmt: skip
        for key, method, path, status in expected:
            forwarded = ("X-Forwarded-For", "192.0.2.1, 203.0.113.7")
            answer = other.ask(("X-API-Key", key.key), forwarded, method=method, path=path)
            assert answer.status == status, (key, method, path, answer)
            assert (answer.row.address, answer.row.path) == ("203.0.113.7", path)
            assert answer.row.event == ("refused" if status == 403 else "used")


def test_what_the_manual_says_to_copy_works_in_a_server_that_somebody_has(site: Site, key: APIKey) -> None:
    """A server with error pages, a service below a prefix, and a location with an error page of its own."""
    text = (FOLDER / "nginx.conf").read_text()
    ours = "error_page 401 403 500 = @refused;"
    text = text.replace(ours, f"{ours} error_page 500 502 503 504 /50x.html;")
    added = f"""
        location = /50x.html {{ return 200; }}
        location /cut/ {{
            set $key_scope orders:read;
            rewrite ^/cut/(.*)$ /$1 break;
            proxy_pass $key_opens://orders;
        }}
        location /uncut/ {{
            set $key_scope orders:read;
            proxy_pass $key_opens://orders/;
        }}
        location /forgotten/ {{
            set $key_scope orders:read;
            error_page 404 /404.html;
            proxy_pass $key_opens://orders;
        }}
        location /repeated/ {{
            set $key_scope orders:read;
            error_page 404 /404.html;
            {ours}
            proxy_pass $key_opens://orders;
        }}
        location / {{"""
    text = text.replace("\n        location / {", added)
    addresses = {"auth_service": site.auth.address, "guarded_service": site.service.address}
    with gateway_running("nginx.conf", text, **addresses) as gateway:
        other = Site(site.auth, site.service, gateway)
        good, twice = [("X-API-Key", str(key.key))], [("X-API-Key", str(key.key)), ("X-API-Key", "0" * 40)]
        assert other.seen(*good, path="/cut/a?b=1").path == "/a?b=1"
        assert other.seen(*good, path="/uncut/a").path == "/"
        paths = ["/orders/7", "/cut/a", "/repeated/", "/forgotten/"]
        assert [other.ask(*twice, path=path).status for path in paths] == [400, 400, 400, 500]


def test_a_configuration_is_used_as_it_is_but_for_its_addresses() -> None:
    text = (FOLDER / "nginx.conf").read_text()
    other = configured(text, listen="127.0.0.1:1", auth_service="10.0.0.1:2", guarded_service="10.0.0.2:3")
    changed = [
        (before.strip(), after.strip())
        for before, after in zip(text.splitlines(), other.splitlines(), strict=True)
        if before != after
    ]
    assert changed == [
        ("server 127.0.0.1:8000;  # auth_service", "server 10.0.0.1:2;  # auth_service"),
        ("server 127.0.0.1:9000;  # guarded_service", "server 10.0.0.2:3;  # guarded_service"),
        ("listen 127.0.0.1:8080;  # listen", "listen 127.0.0.1:1;  # listen"),
    ]
    for wrong in (text.replace("# listen", ""), text + "listen 127.0.0.1:8081;  # listen\n"):
        with pytest.raises(GatewayError, match="# listen"):
            configured(wrong, listen="127.0.0.1:1")
