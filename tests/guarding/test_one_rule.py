"""Whether a key is accepted is one rule: one more condition, added once, holds on every path and in every list."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db.models import Q
from django.http import HttpRequest
from django.test import AsyncClient, Client, RequestFactory
from django.urls import include, path
from django.utils import timezone
from ninja import NinjaAPI
from pytest_django import Settings

from keys import verification
from keys.audit.reports import age_mark, expiring, idle, unused
from keys.checks.database import check_no_key_holds_every_scope, check_rates_are_enforced
from keys.keyrings import DatabaseKeyring, Holder
from keys.management.explanation import explain
from keys.models import APIKey, AuditEvent, RotationError, querysets
from keys.models.api_key import STATES
from keys.networks import Address
from keys.ninja import APIKeyAuth
from keys.verification import Guard, finding
from tests.support.admin import text_of
from tests.support.commands import run
from tests.support.log import rows

pytestmark = pytest.mark.django_db

INTERNAL = "a-key-from-the-environment-of-32-characters"
RECALLED = "Recalled"

api = NinjaAPI(urls_namespace="one-rule")


@api.get("/any", auth=APIKeyAuth())
def any_key(request: HttpRequest) -> dict[str, Any]:
    return {}


@pytest.fixture(autouse=True)
def addresses(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.ROOT_URLCONF = (path("", include("tests.urls")), path("ninja/", api.urls))
    monkeypatch.setenv("TEST_DEDICATED_KEY", INTERNAL)


@pytest.fixture
def recall(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule of a request: no key of this name, wherever it lives, is accepted any more."""
    decided = verification.objection_to

    def objection_to(holder: Holder, address: Address | None) -> str:
        is_recalled = holder.name in {RECALLED, "env:TEST_DEDICATED_KEY"}
        return "inactive" if is_recalled else decided(holder, address)

    monkeypatch.setattr(finding, "objection_to", objection_to)


@pytest.fixture
def recall_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule of keys: none of this name is accepted, said once for one key and once for many."""
    objection, condition = APIKey.objection, querysets.accepted_at
    one = property(lambda key: "inactive" if key.name == RECALLED else objection.fget(key))  # type: ignore[attr-defined]
    monkeypatch.setattr(APIKey, "objection", one)

    monkeypatch.setattr(querysets, "accepted_at", lambda now: condition(now) & ~Q(name=RECALLED))


def wsgi(url: str, **headers: str) -> int:
    return Client().get(url, headers=headers).status_code


def asgi(url: str, **headers: str) -> int:
    async def ask() -> int:
        return (await AsyncClient().get(url, headers=headers)).status_code

    return async_to_sync(ask)()


URLS = ["/guarded/", "/plain/", "/plain-async/", "/async-class/", "/mixed/", "/ninja/any",
        "/after-session/", "/named-late/"]  # fmt: skip


@pytest.mark.matrix
@pytest.mark.parametrize("networks", [[], ["127.0.0.0/8"]], ids=["anywhere", "networks"])
@pytest.mark.parametrize(("ask", "url"), [*product([wsgi, asgi], URLS)])
def test_a_rule_of_requests_holds_on_every_path(
    recall: None, ask: Callable[..., int], url: str, networks: list[str]
) -> None:
    recalled = APIKey.objects.create(name=RECALLED, allowed_ips=networks)
    other = APIKey.objects.create(name="Other", allowed_ips=networks)
    assert ask(url, **{"X-API-Key": recalled.key}) == 401
    assert ask(url, **{"X-API-Key": other.key}) == 200
    assert rows() == [("refused", "inactive", RECALLED, 401), ("used", "", "Other", 200)]


@pytest.mark.parametrize("ask", [wsgi, asgi])
@pytest.mark.parametrize(("url", "header"), [("/internal/", "X-Internal-Api-Key"), ("/mixed/", "X-API-Key")])
def test_it_holds_for_keys_from_the_environment(recall: None, ask: Callable[..., int], url: str, header: str) -> None:
    assert ask(url, **{header: INTERNAL}) == 401
    assert rows() == [("refused", "inactive", "env:TEST_DEDICATED_KEY", 401)]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("url", ["/writing/", "/writing-after-session/"])
def test_it_holds_where_the_answer_rolls_back_the_transaction(
    recall: None, url: str, settings: Settings, request: pytest.FixtureRequest
) -> None:
    from django.db import connection

    request.addfinalizer(lambda: connection.settings_dict.__setitem__("ATOMIC_REQUESTS", False))
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    key = APIKey.objects.create(name=RECALLED)
    assert Client().post(url, headers={"X-API-Key": key.key}).status_code == 401
    assert rows() == [("refused", "inactive", RECALLED, 401)]


@pytest.fixture
def keys(recall_keys: None) -> dict[str, APIKey]:
    """A key in each state, and one of each that the new rule refuses."""
    now = timezone.now()
    kinds: dict[str, dict[str, Any]] = {
        "active": {}, "expiring": {"expires_at": now + timedelta(days=3)}, "inactive": {"is_active": False},
        "expired": {"expires_at": now - timedelta(days=3)}, "retiring": {},
    }  # fmt: skip
    common: dict[str, Any] = {"scopes": ["*"], "rate": "5/min"}
    made = {
        name + kind: APIKey.objects.create(name=name, **common, **values)
        for name in (RECALLED, "Other")
        for kind, values in kinds.items()
    }
    successor = APIKey.objects.create(name="Successor")
    for position, name in enumerate((RECALLED, "Other")):
        replaced_by = successor if position else APIKey.objects.create(name="Another")
        APIKey._base_manager.filter(pk=made[name + "retiring"].pk).update(replaced_by=replaced_by)
    long_ago = now - timedelta(days=400)
    APIKey._base_manager.update(created_at=long_ago)
    AuditEvent._base_manager.update(at=long_ago)  # a log that is younger knows of no key that it is unused
    return {name: APIKey.objects.get(pk=key.pk) for name, key in made.items()}


def test_a_rule_of_keys_holds_in_every_list(keys: dict[str, APIKey]) -> None:
    assert {key.state for name, key in keys.items() if name.startswith(RECALLED)} == {"inactive", "expired"}
    for listed in (
        APIKey.objects.accepted(), expiring(timedelta(days=30)), unused(timedelta(days=30)), idle(timezone.now()),
        APIKey.objects.in_state("active"), APIKey.objects.in_state("expiring"), APIKey.objects.in_state("retiring"),
    ):  # fmt: skip
        names = {key.name for key in listed}
        assert RECALLED not in names
        assert "Other" in names
    assert {age_mark(key) for name, key in keys.items() if name.startswith(RECALLED)} == {""}
    assert age_mark(keys["Otheractive"]) == "overdue"


def test_it_holds_in_commands_checks_and_pages(keys: dict[str, APIKey], admin_client: Client) -> None:
    assert f" {RECALLED} " not in run("keys_list", "--expiring", "30d").out + run("keys_list", "--unused", "30d").out
    listed = [line for line in run("keys_list").out.splitlines() if f" {RECALLED} " in line]
    assert sum(" inactive " in line for line in listed) == 4
    assert sum(" expired " in line for line in listed) == 1
    for check in (check_no_key_holds_every_scope, check_rates_are_enforced):
        (message,) = check(databases=["default"])
        assert "Other" in message.msg
        assert RECALLED not in message.msg
    shown = {state: text_of(admin_client.get(f"/admin/keys/apikey/?state={state}")) for state in STATES}
    assert [state for state in STATES if f">{RECALLED}<" in shown[state]] == ["expired", "inactive"]


def test_it_holds_where_somebody_asks_about_one_key(recall_keys: None) -> None:
    key = APIKey.objects.create(name=RECALLED)
    assert not explain(key.key).accepted
    assert Client().get("/guarded/", headers={"X-API-Key": key.key}).status_code == 401
    with pytest.raises(RotationError):
        key.rotate()


def test_the_state_of_one_key_and_of_many_is_the_same(keys: dict[str, APIKey]) -> None:
    everything = {key.pk: key for key in APIKey.objects.all()}
    found = {state: {key.pk for key in APIKey.objects.in_state(state)} for state in STATES}
    assert sorted(pk for pks in found.values() for pk in pks) == sorted(everything)
    assert {key.pk for key in APIKey.objects.accepted()} == {pk for pk, key in everything.items() if not key.objection}
    for state, pks in found.items():
        assert pks == {pk for pk, key in everything.items() if key.state == state}
    with pytest.raises(KeyError):
        APIKey.objects.in_state("asleep")
    for state in STATES:
        # PostgreSQL does not come to the end of a subquery that NOT IN stands before, with a million keys.
        assert str(APIKey.objects.in_state(state).query).count("SELECT") == 1


def test_a_use_that_was_written_too_early_is_one_refusal(recall: None) -> None:
    key = APIKey.objects.create(name=RECALLED)
    assert Client().get("/guarded/", headers={"X-API-Key": key.key}).status_code == 401
    (event,) = AuditEvent.objects.exclude(method="")
    assert (event.event, event.reason, event.status, event.api_key_id) == ("refused", "inactive", 401, key.pk)
    assert event.duration_ms is not None


@dataclass(frozen=True)
class Contract:
    """A holder that a project's own keyring knows."""

    name: str = "Partner"
    prefix: str = ""
    scopes: tuple[str, ...] = ()
    objection: str = ""
    allowed_ips: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("contract", "status", "reason"),
    [
        (Contract(), 200, ""),
        (Contract(objection="inactive"), 401, "inactive"),
        (Contract(allowed_ips=("10.0.0.0/8",)), 401, "address"),
        (Contract(allowed_ips=("127.0.0.0/8",)), 200, ""),
    ],
)
def test_a_holder_of_another_keyring_may_have_objections_too(contract: Contract, status: int, reason: str) -> None:
    class Contracts(DatabaseKeyring):
        def find(self, token: str) -> Any:
            return contract

    class Mixed(Contracts):
        pass

    class Late(DatabaseKeyring):
        pass

    class Joined(Contracts, Late):
        pass

    for ring in (Contracts(), Mixed(), Joined()):
        use = verification.check(RequestFactory().get("/", headers={"X-API-Key": "x"}), Guard(keyrings=(ring,)))
        assert use is not None
        assert (use.status, use.row["reason"]) == (status, reason)


def test_a_look_up_of_a_mixin_is_asked_and_not_passed_by() -> None:
    key = APIKey.objects.create(name="Of another tenant")

    class OfThisTenant:
        def find(self, token: str) -> None:
            return None

    class Tenant(OfThisTenant, DatabaseKeyring):
        pass

    request = RequestFactory().get("/", headers={"X-API-Key": key.key})
    use = verification.check(request, Guard(keyrings=(Tenant(),)))
    assert use is not None
    assert (use.status, use.holder) == (401, None)


def test_a_reason_that_nobody_has_words_for_is_no_acceptance(monkeypatch: pytest.MonkeyPatch) -> None:
    key = APIKey.objects.create(name="A")
    monkeypatch.setattr(APIKey, "objection", "rate")
    explanation = explain(key.key)
    assert not explanation.accepted
    assert explanation.sentence == f"Refused: A ({key.prefix}) is refused: over its rate."
