"""System A of the example, as services see it: users, employees, the batch look-up and whoami."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from example_project.accounts.models import Department, Employee
from keys.models import APIKey
from tests.support.callers import bearer

pytestmark = pytest.mark.django_db

USERS_INFO = "/api/v1/tts/users-info/"


def header(*scopes: str) -> dict[str, str]:
    return {"X-API-Key": APIKey.objects.create(name="TTS-Backend", scopes=list(scopes)).key}


def look_up(client: Client, body: Any) -> Any:
    return client.post(USERS_INFO, body, content_type="application/json", headers=header("users:read"))


class TestInternalDetails:
    def test_of_a_user(self, client: Client, ada: User) -> None:
        response = client.get(f"/api/v1/users/internal/{ada.pk}/", headers=header("users:read"))
        assert response.status_code == 200
        assert response.json() == {
            "id": ada.pk,
            "username": "ada",
            "email": "ada@example.com",
            "first_name": "Ada",
            "last_name": "Lovelace",
            "is_active": True,
        }

    def test_of_a_deactivated_user(self, client: Client, ada: User) -> None:
        User.objects.update(is_active=False)
        response = client.get(f"/api/v1/users/internal/{ada.pk}/", headers=header("users:read"))
        assert response.json()["is_active"] is False

    def test_of_an_employee_by_its_own_number(self, client: Client, ada: User, bob: User) -> None:
        research = Department.objects.create(name="Research")
        employee = Employee.objects.create(
            user=bob, employee_number="E-7", department=research, position="Engineer", pk=ada.pk
        )
        response = client.get(f"/api/v1/hdts/employees/internal/{employee.pk}/", headers=header("employees:read"))
        assert response.status_code == 200
        body = response.json()
        assert body["user"]["username"] == "bob"
        assert {name: body[name] for name in ("id", "employee_number", "department", "position")} == {
            "id": employee.pk,
            "employee_number": "E-7",
            "department": "Research",
            "position": "Engineer",
        }

    @pytest.mark.parametrize("resource", ["users", "hdts/employees"])
    @pytest.mark.parametrize("number", ["0", str(2**31), str(2**63), "9" * 5000], ids=lambda number: number[:20])
    def test_of_nobody(self, client: Client, resource: str, number: str) -> None:
        headers = header("users:read", "employees:read")
        response = client.get(f"/api/v1/{resource}/internal/{number}/", headers=headers)
        assert response.status_code == 404

    @pytest.mark.parametrize(
        ("address", "other_scope"),
        [
            ("/api/v1/users/internal/1/", "employees:read"),
            ("/api/v1/hdts/employees/internal/1/", "users:read"),
            (USERS_INFO, "employees:read"),
        ],
    )
    def test_are_for_keys_with_the_scope(self, client: Client, address: str, other_scope: str) -> None:
        call = client.post if address == USERS_INFO else client.get
        assert call(address).status_code == 401
        assert call(address, headers={"X-API-Key": "0" * 40}).json() == {"detail": "Invalid API key."}
        assert call(address, headers=header(other_scope)).status_code == 403

    def test_are_not_for_users(self, client: Client, ada: User) -> None:
        assert client.get(f"/api/v1/users/internal/{ada.pk}/", headers=bearer(ada)).status_code == 401


class TestUsersInfo:
    def test_finds_and_misses(self, client: Client, ada: User, bob: User) -> None:
        nobody = bob.pk + 1000
        response = look_up(client, {"ids": [nobody, bob.pk, ada.pk, bob.pk, nobody]})
        assert response.status_code == 200
        assert [user["username"] for user in response.json()["users"]] == ["bob", "ada"]
        assert response.json()["missing"] == [nobody]

    def test_of_nothing(self, client: Client) -> None:
        response = look_up(client, {"ids": []})
        assert (response.status_code, response.json()) == (200, {"users": [], "missing": []})

    def test_takes_500_in_one_query(self, client: Client, ada: User) -> None:
        headers = header("users:read")
        with CaptureQueriesContext(connection) as queries:
            response = client.post(
                USERS_INFO, {"ids": list(range(ada.pk, ada.pk + 500))}, content_type="application/json", headers=headers
            )
        assert len(response.json()["missing"]) == 499
        assert len([query for query in queries if "auth_user" in query["sql"]]) == 1

    def test_knows_numbers_of_64_bits(self, client: Client) -> None:
        ids = [2**63 - 1, -(2**63), 2**31, 0, -1]
        assert look_up(client, {"ids": ids}).json() == {"users": [], "missing": ids}

    @pytest.mark.parametrize(
        "body",
        [
            {"ids": list(range(501))},
            {"ids": [True]},
            {"ids": ["1"]},
            {"ids": [1.0]},
            {"ids": [1.5]},
            {"ids": [None]},
            {"ids": [[1]]},
            {"ids": ["\x00"]},
            {"ids": [2**63]},
            {"ids": [-(2**63) - 1]},
            {"ids": [10**30]},
            {"ids": "1"},
            {"ids": 1},
            {"ids": {"1": 1}},
            {"ids": None},
            {},
            [1, 2],
            "ids",
            7,
            "null",
            '{"ids": [NaN]}',
            '{"ids": [1e400]}',
            '{"ids": [1',
            '{"ids": ' + "[" * 100_000,
            '{"ids": ' + "[" * 40 + "]" * 40 + "}",
            '{"ids": [' + "9" * 5000 + "]}",
            b"\xff\x00",
            "",
        ],
        ids=lambda body: repr(body)[:30],
    )
    def test_refuses_all_else(self, client: Client, body: Any) -> None:
        assert look_up(client, body).status_code == 400


class TestWhoAmI:
    def test_tells_the_key_in_use(self, client: Client) -> None:
        expires_at = timezone.now() + timedelta(days=1)
        key = APIKey.objects.create(name="HDTS", scopes=["employees:read"], expires_at=expires_at)
        response = client.get("/api/v1/keys/whoami/", headers={"X-API-Key": key.key})
        assert response.json() == {
            "name": "HDTS",
            "prefix": key.prefix,
            "scopes": ["employees:read"],
            "expires_at": expires_at.isoformat().replace("+00:00", "Z"),
        }

    def test_is_for_any_key(self, client: Client) -> None:
        response = client.get("/api/v1/keys/whoami/", headers=header())
        assert (response.json()["scopes"], response.json()["expires_at"]) == ([], None)

    def test_is_for_keys(self, client: Client, ada: User) -> None:
        assert client.get("/api/v1/keys/whoami/").status_code == 401
        assert client.get("/api/v1/keys/whoami/", headers=bearer(ada)).status_code == 401
