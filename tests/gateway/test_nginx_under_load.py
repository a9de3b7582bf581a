"""10 000 requests through nginx: each is answered as SPEC.md 4 says, and each has its row.

While they run, a key is revoked, the audit log is away for a while, and then the keys are.
"""

import hashlib
import http.client
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from example_project.gateway.running import gateway_running
from keys.models import APIKey, AuditEvent
from keys.models.audit_event import STRANGERS
from keys.verification import UNAVAILABLE_DETAIL
from tests.support.gateways import auth_service, require_proxy
from tests.support.guarded_service import BODY, Received, guarded_service
from tests.support.processes import SECONDS_TO_WAIT, eventually

pytestmark = [pytest.mark.matrix, pytest.mark.django_db(transaction=True)]

CONNECTIONS = 8
RATE = 100
BIG = random.Random(16).randbytes(10 * 1024 * 1024)
INVALID = {"detail": "Invalid API key."}
UNAVAILABLE = {"detail": UNAVAILABLE_DETAIL}
BIG_DIGEST = hashlib.sha256(BIG).hexdigest()
FORGED = (
    ("X-Key-Name", "root"), ("X_Key_Name", "root"), ("X-Forwarded-For", "192.0.2.1"), ("X-Original-URI", "/evil"),
    ("X-Original-Method", "DELETE"), ("X-Forwarded-Uri", "/evil"), ("X-Forwarded-Host", "evil.example"),
    ("Cookie", "sessionid=0"), ("X_Forwarded_For", "192.0.2.1"),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A kind of request, how many there are, and what becomes of it while everything runs."""

    times: int
    status: int
    reason: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: Any = None  # of a refusal
    method: str = "GET"
    sent: bytes = b""


@dataclass
class Told:
    """One request, and what its client was told."""

    case: str
    request_id: str
    began: float = 0.0
    ended: float = 0.0
    status: int = 0
    headers: http.client.HTTPMessage = field(default_factory=http.client.HTTPMessage)
    body: bytes = b""


class Incident:
    """Something that is so from its commit on, and for an outage until it begins to be put back."""

    def __init__(self) -> None:
        self.begins = self.is_so = self.ends = self.is_over = float("inf")

    def met(self, told: Told) -> bool:
        """Whether it was so all the time that the request took."""
        return self.is_so <= told.began and told.ended <= self.ends

    def may_have_met(self, told: Told) -> bool:
        return told.ended >= self.begins and told.began <= self.is_over


def cases_for_keys() -> dict[str, Case]:
    keys = {
        name: APIKey.objects.create(name=name, scopes=["orders:read"], rate=f"{RATE}/day" if name == "rated" else "")
        for name in ("good", "other", "inactive", "expired", "revoked", "rated")
    }
    scopeless = APIKey.objects.create(name="scopeless", scopes=["users:read"])
    keys["inactive"].deactivate()
    QuerySet(APIKey).filter(name="expired").update(expires_at=timezone.now() - timedelta(hours=1))
    good = ("X-API-Key", keys["good"].key)
    missing = {"detail": "Authentication credentials were not provided."}
    conflict = {"detail": "More than one API key was presented."}
    return {
        "good": Case(2900, 200, headers=(good,)),
        "keyword": Case(500, 200, headers=(("Authorization", f"Api-Key {good[1]}"),)),
        "beside a user": Case(300, 200, headers=(good, ("Authorization", "Bearer of-a-user"))),
        "head": Case(500, 200, headers=(good,), method="HEAD"),
        "post": Case(500, 200, headers=(good,), method="POST", sent=b"order=7"),
        "forged": Case(500, 200, headers=(good, *FORGED)),
        "big": Case(20, 200, headers=(good,), method="PUT", sent=BIG),
        "big and refused": Case(20, 401, "inactive", (("X-API-Key", keys["inactive"].key),), INVALID, "PUT", BIG),
        "none": Case(400, 401, body=missing),
        "unknown": Case(700, 401, "unknown", (("X-API-Key", "0" * 40),), INVALID),
        "malformed": Case(400, 401, "malformed", (("X-API-Key", "né"),), INVALID),
        "head and refused": Case(200, 401, "expired", (("X-API-Key", keys["expired"].key),), INVALID, "HEAD"),
        "repeated": Case(300, 400, "conflict", (good, good), conflict),
        "two keys": Case(300, 400, "conflict", (good, ("Authorization", f"Api-Key {keys['other'].key}")), conflict),
        "inactive": Case(480, 401, "inactive", (("X-API-Key", keys["inactive"].key),), INVALID),
        "expired": Case(480, 401, "expired", (("X-API-Key", keys["expired"].key),), INVALID),
        "scope": Case(
            500,
            403,
            "scope",
            (("X-API-Key", scopeless.key),),
            {"detail": "This API key lacks the scope “orders:read”."},
        ),
        "rated": Case(500, 200, headers=(("X-API-Key", keys["rated"].key),)),
        "revoked": Case(500, 200, headers=(("X-API-Key", keys["revoked"].key),)),
    }


class Load:
    """All requests, sent over a few connections that are kept open."""

    def __init__(self, cases: dict[str, Case], port: int) -> None:
        self._cases, self._port = cases, port
        kinds = [name for name, case in cases.items() for _ in range(case.times)]
        random.Random(16).shuffle(kinds)
        self._waiting = iter([Told(kind, f"r{number:05}") for number, kind in enumerate(kinds)])
        self._lock = threading.Lock()
        self.told: list[Told] = []

    def run(self) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=SECONDS_TO_WAIT)) as client:
            while (told := self._next()) is not None:
                self._send(client, self._cases[told.case], told)
                self.told.append(told)

    def _next(self) -> Told | None:
        with self._lock:
            return next(self._waiting, None)

    def _send(self, client: http.client.HTTPConnection, case: Case, told: Told) -> None:
        told.began = monotonic()
        client.putrequest(case.method, f"/orders/{told.request_id}?secret=1", skip_accept_encoding=True)
        for name, value in (*case.headers, ("X-Request-ID", told.request_id)):
            client.putheader(name, value)
        if case.sent:
            client.putheader("Content-Length", str(len(case.sent)))
        client.endheaders()
        if case.sent:
            # A refused body need not be read to its end.
            try:
                client.send(case.sent)
            except ConnectionError:
                assert case.body is not None
        answer = client.getresponse()
        told.status, told.headers, told.body = answer.status, answer.headers, answer.read()
        told.ended = monotonic()


@contextmanager
def running(load: Load) -> Iterator[Callable[[int], None]]:
    """Send the requests; yields what waits until so many of them are answered. Returns when all are."""
    threads = [threading.Thread(target=load.run) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()

    def until(number: int) -> None:
        assert eventually(lambda: len(load.told) >= number or not any(map(threading.Thread.is_alive, threads)), 120)

    yield until
    for thread in threads:
        thread.join()


@contextmanager
def away(table: str) -> Iterator[Incident]:
    """The table is away until the end of the block."""
    incident = Incident()
    incident.begins = monotonic()
    execute(f"ALTER TABLE {table} RENAME TO {table}_away")
    incident.is_so = monotonic()
    yield incident
    incident.ends = monotonic()
    execute(f"ALTER TABLE {table}_away RENAME TO {table}")
    incident.is_over = monotonic()


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def test_each_of_10_000_requests_has_its_answer_and_its_row() -> None:
    require_proxy("nginx.conf")
    cases = cases_for_keys()
    assert sum(case.times for case in cases.values()) == 10_000
    revoked = Incident()
    with auth_service() as auth, guarded_service() as service:
        with gateway_running("nginx.conf", auth_service=auth.address, guarded_service=service.address) as gateway:
            load = Load(cases, gateway.port)
            started = monotonic()
            with running(load) as until:
                until(3000)
                revoked.begins = monotonic()
                APIKey.objects.get(name="revoked").deactivate()
                revoked.is_so = monotonic()
                until(5000)
                with away("keys_auditevent") as log_away:
                    until(5700)
                until(7000)
                with away("keys_apikey") as keys_away:
                    until(7700)
            print(f"{len(load.told)} requests in {monotonic() - started:.0f} s")
        # What is written behind the answers: the outcomes, and the numbers of strangers.
        assert eventually(lambda: not AuditEvent.objects.filter(event="used", status=None).exists())
    assert len(load.told) == 10_000
    for told in load.told:
        expected = [expected_of(told, cases[told.case], revoked)]
        if told.case != "none" and (log_away.may_have_met(told) or keys_away.may_have_met(told)):
            unavailable = (503, UNAVAILABLE, "")
            # Strangers are counted in memory; and of what cannot be one key, none is looked up.
            is_certain = not is_strangers(cases[told.case]) and (log_away.met(told) or keys_away.met(told))
            expected = [unavailable] if is_certain else [*expected, unavailable]
        assert is_answered_as(told, cases[told.case], expected), (told, expected)
    check_rates(load.told)
    check_what_passed(load.told, cases, service.received)
    check_rows(load.told, cases, log_away)


def expected_of(told: Told, case: Case, revoked: Incident) -> tuple[int, Any, str]:
    """Return the status, the body and the reason. Of a key that is revoked meanwhile, or over its rate, both may be."""
    if told.case == "rated" and told.status == 429:
        return 429, None, "rate"
    if told.case == "revoked" and (
        revoked.is_so <= told.began or (revoked.begins <= told.ended and told.status == 401)
    ):
        return 401, INVALID, "inactive"
    return case.status, case.body, case.reason


def is_answered_as(told: Told, case: Case, expected: list[tuple[int, Any, str]]) -> bool:
    status, body, _ = next((each for each in expected if each[0] == told.status), (0, None, ""))
    headers = {name: told.headers[name] for name in ("Content-Type", "Cache-Control", "WWW-Authenticate")}
    vary = told.headers.get_all("Vary") == ["X-API-Key, Authorization"]
    if status in {0, 200}:
        return status == 200 and vary and told.body == (b"" if case.method == "HEAD" else BODY)
    challenge = 'Api-Key realm="api"' if status == 401 else None
    return (
        headers == {"Content-Type": "application/json", "Cache-Control": "no-store", "WWW-Authenticate": challenge}
        and vary
        and (told.headers["Retry-After"] is not None) == (status == 429)
        and (case.method == "HEAD" or body is None or json.loads(told.body) == body)
    )


def check_rates(all_told: list[Told]) -> None:
    statuses = Counter(told.status for told in all_told if told.case == "rated")
    assert statuses[200] == RATE
    assert statuses[429] > 0


def check_what_passed(all_told: list[Told], cases: dict[str, Case], received: list[Received]) -> None:
    """The service got what was answered 200, once, and nothing else."""
    passed = {told.request_id: told for told in all_told if told.status == 200}
    assert sorted(each.request_id for each in received) == sorted(passed)
    for each in received:
        told = passed[each.request_id]
        case = cases[told.case]
        assert (each.method, each.path) == (case.method, f"/orders/{told.request_id}?secret=1")
        assert (each.body_length, each.body_digest) == (len(case.sent), digest_of(case.sent))
        assert each.values("X-Key-Name") == [told.case if told.case in {"rated", "revoked"} else "good"]
        assert each.values("X-Forwarded-For") == ["127.0.0.1"]
        assert each.values("Authorization") == ["Bearer of-a-user"] * (told.case == "beside a user")
        assert not each.values("X-API-Key") + each.values("X-Original-URI")


def check_rows(all_told: list[Told], cases: dict[str, Case], log_away: Incident) -> None:
    rows: dict[str, list[AuditEvent]] = {}
    for row in AuditEvent.objects.filter(event__in=["used", "refused"]):
        rows.setdefault(row.request_id, []).append(row)
    for reason in STRANGERS:
        strangers = [row for told_rows in rows.values() for row in told_rows if row.reason == reason]
        statuses = Counter(told.status == 503 for told in all_told if cases[told.case].reason == reason)
        # One that was told 503 may have been counted in memory, and written when the log was back.
        counted = sum(row.count for row in strangers)
        assert statuses[False] <= counted <= statuses.total(), (reason, [(row.at, row.count) for row in strangers])
    for told in all_told:
        case, found = cases[told.case], rows.get(told.request_id, [])
        if is_strangers(case):
            continue
        if told.case == "none" or log_away.met(told):
            assert found == [], told
        elif told.status != 503:
            assert len(found) == 1, (told, found)
        assert len(found) <= 1
        for row in found:
            assert (row.method, row.path) == (case.method, f"/orders/{told.request_id}"), told
            assert (row.endpoint, row.address) == ("gateway:orders.example", "127.0.0.1")
            assert (row.event, row.status, row.count) == (
                "used" if told.status in {200, 503} else "refused",
                told.status,
                1,
            )
            denied = {401: "inactive", 429: "rate"}.get(told.status, "")
            assert row.reason == (denied if told.case in {"rated", "revoked"} else case.reason * (told.status != 503))


def is_strangers(case: Case) -> bool:
    """Tell whether the rows of the case are shared beyond the first."""
    return case.reason in STRANGERS


def digest_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest() if body is not BIG else BIG_DIGEST
