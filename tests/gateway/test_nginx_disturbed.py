"""What becomes of requests while something is restarted, killed, slow or gone."""

import http.client
import json
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from uuid import uuid4

import pytest

from example_project.gateway.running import Gateway, gateway_running
from keys.models import APIKey, AuditEvent
from keys.verification import UNAVAILABLE_DETAIL
from tests.support.gateways import AuthService, auth_service, require_proxy
from tests.support.guarded_service import GuardedService, guarded_service
from tests.support.processes import SECONDS_TO_WAIT, eventually
from tests.support.recording_service import Answer, RecordingService

pytestmark = [pytest.mark.matrix, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def key() -> str:
    return str(APIKey.objects.create(name="Billing", scopes=["orders:read"]).key)


@pytest.fixture
def auth() -> Iterator[AuthService]:
    require_proxy("nginx.conf")
    with auth_service() as service:
        yield service


@pytest.fixture
def service() -> Iterator[GuardedService]:
    with guarded_service() as service:
        yield service


@pytest.fixture
def gateway(auth: AuthService, service: GuardedService) -> Iterator[Gateway]:
    with gateway_running("nginx.conf", auth_service=auth.address, guarded_service=service.address) as gateway:
        yield gateway


class Callers:
    """Calls over kept connections until they are told to stop. `statuses` has each by its id; 0 is no answer."""

    def __init__(self, port: int, key: str) -> None:
        self._port, self._key = port, key
        self.statuses: dict[str, int] = {}
        self._are_done = threading.Event()

    def run(self) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=SECONDS_TO_WAIT)) as client:
            while not self._are_done.is_set():
                request_id = uuid4().hex
                try:
                    client.request("GET", "/orders/", headers={"X-API-Key": self._key, "X-Request-ID": request_id})
                    answer = client.getresponse()
                    answer.read()
                    self.statuses[request_id] = answer.status
                except (http.client.HTTPException, ConnectionError):
                    client.close()
                    self.statuses[request_id] = 0

    @contextmanager
    def calling(self) -> Iterator[None]:
        threads = [threading.Thread(target=self.run) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._are_done.set()
            for thread in threads:
                thread.join()

    def number_of(self, status: int) -> int:
        return [*self.statuses.copy().values()].count(status)

    def until(self, more: int, status: int) -> None:
        """Wait for so many more answers of that status."""
        wanted = self.number_of(status) + more
        assert eventually(lambda: self.number_of(status) >= wanted), Counter(self.statuses.values())


def check(callers: Callers, service: GuardedService, expected: set[int]) -> None:
    """Who was let in is on record once and reached the service once, and nobody else reached it."""
    assert {*callers.statuses.values()} <= expected
    passed = {request_id for request_id, status in callers.statuses.items() if status == 200}
    rows = Counter(AuditEvent.objects.filter(event__in=["used", "refused"]).values_list("request_id", flat=True))
    reached = Counter(received.request_id for received in service.received)
    assert {rows[request_id] for request_id in passed} == {1}
    assert {reached[request_id] for request_id in passed} == {1}
    assert {*rows.values()} == {1}
    assert all(callers.statuses[request_id] in {0, 200} for request_id in reached)
    assert not AuditEvent.objects.filter(event="refused").exists()


def test_the_auth_service_is_restarted_and_killed(
    auth: AuthService, service: GuardedService, gateway: Gateway, key: str
) -> None:
    callers = Callers(gateway.port, key)
    with callers.calling():
        callers.until(100, 200)
        for _ in range(3):
            auth.reload()
            callers.until(100, 200)
        auth.kill()
        callers.until(100, 503)
        auth.start()
        callers.until(100, 200)
    check(callers, service, {200, 503})


def test_nginx_is_reloaded(service: GuardedService, gateway: Gateway, key: str) -> None:
    reload = [*gateway.command[: gateway.command.index("-g")], "-s", "reload"]
    callers = Callers(gateway.port, key)
    with callers.calling():
        for _ in range(3):
            callers.until(100, 200)
            subprocess.run(reload, check=True)
        callers.until(100, 200)
    # A request on a kept connection may meet its end.
    check(callers, service, {0, 200})


def test_a_slow_auth_service_lets_nobody_in(
    auth: AuthService, service: GuardedService, gateway: Gateway, key: str
) -> None:
    auth.freeze()
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=SECONDS_TO_WAIT)) as client:
            client.request("GET", "/orders/", headers={"X-API-Key": key, "X-Request-ID": "slow"})
            answer = client.getresponse()
            assert (answer.status, json.loads(answer.read())) == (503, {"detail": UNAVAILABLE_DETAIL})
    finally:
        auth.thaw()
    assert service.received == []
    # The question was there, and is answered when nobody waits any more.
    assert eventually(lambda: AuditEvent.objects.filter(request_id="slow", event="used", status=200).exists())


def test_a_client_that_hangs_up_on_the_service_is_on_record(
    service: GuardedService, gateway: Gateway, key: str
) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), SECONDS_TO_WAIT) as client:
        client.sendall(
            f"GET /orders/held HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nX-Request-ID: held\r\n\r\n".encode()
        )
        assert eventually(lambda: len(service.received) == 1)
    service.released.set()
    assert eventually(lambda: AuditEvent.objects.filter(request_id="held", event="used", status=200).exists())
    assert AuditEvent.objects.filter(event="used").count() == len(service.received) == 1


def test_a_client_that_hangs_up_before_the_answer_of_the_door_does_not_reach_the_service(
    service: GuardedService,
) -> None:
    require_proxy("nginx.conf")
    is_asked, may_answer = threading.Event(), threading.Event()

    def hesitate() -> Answer:
        is_asked.set()
        may_answer.wait(SECONDS_TO_WAIT)
        return named

    named = Answer(200, {"X-Key-Name": "Billing"})
    with RecordingService() as door:
        door.answers["/gateway/?scope=orders:read"] = [hesitate, named]
        address = door.url.removeprefix("http://")
        with gateway_running("nginx.conf", auth_service=address, guarded_service=service.address) as gateway:
            request = "GET /orders/{} HTTP/1.1\r\nHost: x\r\n\r\n"
            with socket.create_connection(("127.0.0.1", gateway.port), SECONDS_TO_WAIT) as client:
                client.sendall(request.format("gone").encode())
                assert is_asked.wait(SECONDS_TO_WAIT)
            with socket.create_connection(("127.0.0.1", gateway.port), SECONDS_TO_WAIT) as client:
                client.sendall(request.format("after").encode())
                assert client.recv(65_536).startswith(b"HTTP/1.1 200")
            may_answer.set()
    assert [received.path for received in service.received] == ["/orders/after"]
