"""An old system before or behind ours, in the same header: whose answer it is, and which rows there are."""

from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from knox.auth import TokenAuthentication as KnoxAuthentication
from pytest_django import Settings
from rest_framework.authentication import BasicAuthentication, SessionAuthentication, TokenAuthentication
from rest_framework_api_key.models import APIKey as OtherAPIKey
from rest_framework_api_key.permissions import HasAPIKey as OtherHasAPIKey

from keys.authentication import APIKeyAuthentication
from keys.permissions import HasScope
from tests.support.commands import serve
from tests.support.log import rows
from tests.support.two_systems import (
    Ours,
    OursToTheEnd,
    PatientKnox,
    PatientTokens,
    by_authtoken,
    by_knox,
    guarded_by,
    our_token,
    their_token,
)

pytestmark = pytest.mark.django_db

Rows = list[tuple[str, str, str, int | None]]

REFUSED = {"detail": "Invalid API key."}
THEIRS = {"detail": "Invalid token."}
INACTIVE_USER = {"detail": "User inactive or deleted."}
LACKING = {"detail": "This API key lacks the scope “users:read”."}
ANNA = {"user": "anna"}
BILLING = {"user": "key:Billing", "by": "APIKey"}

# What is presented: the status, a part of the body, and the rows. The same wherever ours is.
OUR_KEYS: dict[str, tuple[int, dict[str, str], Rows]] = {
    "good": (200, BILLING, [("used", "", "Billing", 200)]),
    "without scope": (403, {}, [("refused", "scope", "Billing", 403)]),
    "inactive": (401, REFUSED, [("refused", "inactive", "Billing", 401)]),
    "expired": (401, REFUSED, [("refused", "expired", "Billing", 401)]),
}
STRANGER: Rows = [("refused", "unknown", "", 401)]

SYSTEMS: dict[str, tuple[Any, Any, Callable[[User], str]]] = {
    "authtoken": (TokenAuthentication, PatientTokens, by_authtoken),
    "knox": (KnoxAuthentication, PatientKnox, by_knox),
}


@pytest.fixture(params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> tuple[Any, Any, Callable[[User], str]]:
    return SYSTEMS[request.param]


def answer(headers: dict[str, str], client: Client | None = None) -> tuple[int, dict[str, str]]:
    """Return status and body; what our guard says of caches holds for each answer."""
    response = (client or Client(raise_request_exception=False)).get("/0/", headers=headers)
    assert response["Cache-Control"] == "no-store"
    assert {"X-API-Key", "Authorization"} <= {*response["Vary"].split(", ")}
    body: dict[str, str] = response.json()
    return response.status_code, body


def check(headers: dict[str, str], status: int, body: dict[str, str], expected: Rows) -> None:
    found = answer(headers)
    assert (found[0], {**found[1], **body}) == (status, found[1])
    assert rows() == expected


PLACES: dict[str, Callable[[str], dict[str, str]]] = {
    "in the same keyword": lambda token: {"Authorization": f"Token {token}"},
    "in a header of ours": lambda token: {"X-API-Key": token},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("state", OUR_KEYS)
@pytest.mark.parametrize("order", ["ours first", "ours behind one that is patient"])
def test_our_keys_get_our_answers(settings: Settings, system: Any, order: str, state: str, place: str) -> None:
    _, patient, _ = system
    serve(settings, guarded_by(Ours, system[0]) if order == "ours first" else guarded_by(patient, OursToTheEnd))
    check(PLACES[place](our_token(state)), *OUR_KEYS[state])


class TestTheirTokens:
    """What the old system answers stays as it is, and is on no record of ours while nobody is refused."""

    @pytest.mark.parametrize("state", ["good", "bad", "inactive"])
    def test_with_ours_first(self, settings: Settings, system: Any, state: str) -> None:
        old, _, make = system
        serve(settings, guarded_by(Ours, old))
        expected: dict[str, tuple[int, dict[str, str], Rows]] = {
            "good": (200, ANNA, []), "bad": (401, THEIRS, STRANGER), "inactive": (401, INACTIVE_USER, STRANGER),
        }  # fmt: skip
        check({"Authorization": f"Token {their_token(make, state)}"}, *expected[state])

    @pytest.mark.parametrize("state", ["good", "bad", "inactive"])
    def test_with_ours_behind_one_that_is_patient(self, settings: Settings, system: Any, state: str) -> None:
        _, patient, make = system
        serve(settings, guarded_by(patient, OursToTheEnd))
        expected: dict[str, tuple[int, dict[str, str], Rows]] = {
            "good": (200, ANNA, []), "bad": (401, REFUSED, STRANGER), "inactive": (401, REFUSED, STRANGER),
        }  # fmt: skip
        check({"Authorization": f"Token {their_token(make, state)}"}, *expected[state])


class TestAnOldClassThatRaisesBeforeOurs:
    """It refuses our keys too, and the log says whose they were."""

    @pytest.mark.parametrize(
        ("state", "row"),
        [
            ("good", ("used", "", "Billing", 401)),
            ("without scope", ("used", "", "Billing", 401)),
            ("inactive", ("refused", "inactive", "Billing", 401)),
            ("expired", ("refused", "expired", "Billing", 401)),
            ("unknown", ("refused", "unknown", "", 401)),
        ],
    )
    @pytest.mark.parametrize("ours", [Ours, OursToTheEnd])
    def test_refuses_them(self, settings: Settings, system: Any, ours: Any, state: str, row: Any) -> None:
        serve(settings, guarded_by(system[0], ours))
        check({"Authorization": f"Token {our_token(state)}"}, 401, {}, [row])

    def test_is_not_asked_in_another_header(self, settings: Settings, system: Any) -> None:
        serve(settings, guarded_by(system[0], Ours))
        check({"X-API-Key": our_token("good")}, *OUR_KEYS["good"])

    def test_accepts_its_own(self, settings: Settings, system: Any) -> None:
        serve(settings, guarded_by(system[0], Ours))
        check({"Authorization": f"Token {their_token(system[2], 'good')}"}, 200, ANNA, [])


class TestBothInOneRequest:
    """Ours reads both places: two keys, of which none is preferred if one of them is ours."""

    @pytest.mark.parametrize("theirs", ["good", "bad"])
    @pytest.mark.parametrize("ours", ["good", "inactive"])
    def test_ours_and_theirs(self, settings: Settings, system: Any, ours: str, theirs: str) -> None:
        serve(settings, guarded_by(Ours, system[0]))
        headers = {"X-API-Key": our_token(ours), "Authorization": f"Token {their_token(system[2], theirs)}"}
        check(headers, 400, {"detail": "More than one API key was presented."}, [("refused", "conflict", "", 400)])

    @pytest.mark.parametrize(
        ("theirs", "expected"), [("good", (200, ANNA, [])), ("bad", (401, THEIRS, [("refused", "conflict", "", 401)]))]
    )
    def test_a_strangers_and_theirs(self, settings: Settings, system: Any, theirs: str, expected: Any) -> None:
        serve(settings, guarded_by(Ours, system[0]))
        token = their_token(system[2], theirs)
        check({"X-API-Key": our_token("unknown"), "Authorization": f"Token {token}"}, *expected)

    @pytest.mark.parametrize("state", [*OUR_KEYS])
    def test_where_ours_reads_another_keyword(self, settings: Settings, state: str) -> None:
        """Whoever is first decides; the other is not asked."""
        serve(settings, guarded_by(APIKeyAuthentication, TokenAuthentication))
        headers = {"X-API-Key": our_token(state), "Authorization": f"Token {their_token(by_authtoken, 'good')}"}
        check(headers, *OUR_KEYS[state])


class TestOtherWaysIn:
    @pytest.mark.parametrize(
        ("password", "expected"),
        [("right", (200, ANNA, [])), ("wrong", (401, {"detail": "Invalid username/password."}, []))],
    )
    def test_basic_authentication_without_a_key(self, settings: Settings, password: str, expected: Any) -> None:
        User.objects.create_user("anna", password="right")
        serve(settings, guarded_by(Ours, BasicAuthentication))
        client = Client(raise_request_exception=False)
        value = b64encode(f"anna:{password}".encode()).decode()
        found = client.get("/0/", headers={"Authorization": f"Basic {value}"})
        assert (found.status_code, {**found.json(), **expected[1]}, rows()) == (expected[0], found.json(), expected[2])

    @pytest.mark.parametrize("order", [(Ours, SessionAuthentication), (SessionAuthentication, Ours)])
    def test_a_session(self, settings: Settings, order: Any) -> None:
        serve(settings, guarded_by(*order))
        client = Client()
        client.force_login(User.objects.create(username="anna"))
        assert answer({"X-API-Key": our_token("unknown")}, client)[0] == 200
        assert rows() == []

    @pytest.mark.parametrize(
        ("order", "status"), [((Ours, SessionAuthentication), 401), ((SessionAuthentication, Ours), 403)]
    )
    def test_a_session_that_is_not_there(self, settings: Settings, order: Any, status: int) -> None:
        """Django REST framework makes 403 of 401 where the first class has no challenge. It was refused, though."""
        serve(settings, guarded_by(*order))
        assert answer({"X-API-Key": our_token("unknown")})[0] == status
        assert rows() == [("refused", "unknown", "", status)]

    @pytest.mark.parametrize(
        ("state", "expected"),
        [
            ("good", (200, {"user": "AnonymousUser"}, [])),
            ("revoked", (401, {}, STRANGER)),
            ("bad", (401, {}, STRANGER)),
        ],
    )
    def test_a_permission_that_reads_the_same_header(self, settings: Settings, state: str, expected: Any) -> None:
        class Leaves(APIKeyAuthentication):
            leaves_unknown = True

        serve(settings, guarded_by(Leaves, permission_classes=[HasScope("users:read") | OtherHasAPIKey]))
        token = "x.y" if state == "bad" else OtherAPIKey.objects.create_key(name="anna", revoked=state == "revoked")[1]
        check({"Authorization": f"Api-Key {token}"}, *expected)

    @pytest.mark.parametrize("state", [*OUR_KEYS])
    def test_our_keys_before_such_a_permission(self, settings: Settings, state: str) -> None:
        class Leaves(APIKeyAuthentication):
            leaves_unknown = True

        serve(settings, guarded_by(Leaves, permission_classes=[HasScope("users:read") | OtherHasAPIKey]))
        check({"Authorization": f"Api-Key {our_token(state)}"}, *OUR_KEYS[state])
