"""The example's users look after their own keys and those of their department, on pages and by the API."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from example_project.accounts.models import Department, Employee
from keys.models import APIKey, AuditEvent
from tests.support.callers import bearer

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("with_owners")]

KEYS, PAGES, LOGIN = "/api/v1/keys/", "/account/keys/", "/api/v1/auth/login/"


@pytest.fixture
def research(ada: User) -> Department:
    """Ada's department."""
    department = Department.objects.create(name="Research")
    Employee.objects.create(user=ada, employee_number="E-1", department=department, position="Engineer")
    return department


def post(client: Client, path: str, body: Any, **headers: str) -> Any:
    return client.post(path, body, content_type="application/json", headers=headers)


def test_users_make_keys_for_themselves(client: Client, bob: User) -> None:
    made = post(client, KEYS, {"name": "Laptop"}, **bearer(bob)).json()
    assert (made["owner"], made["scopes"]) == (f"auth.user:{bob.pk}", ["users:read", "employees:read"])
    path = f"/api/v1/users/internal/{bob.pk}/"
    assert client.get(path, headers={"X-API-Key": made["key"]}).json()["username"] == "bob"

    User.objects.filter(pk=bob.pk).update(is_active=False)

    assert client.get(path, headers={"X-API-Key": made["key"]}).status_code == 401
    assert AuditEvent.objects.latest("pk").reason == "owner"


def test_employees_look_after_the_keys_of_their_department(
    client: Client, ada: User, bob: User, research: Department
) -> None:
    owner = f"accounts.department:{research.pk}"
    made = post(client, KEYS, {"name": "Pipeline", "owner": owner}, **bearer(ada))
    assert (made.status_code, made.json()["owner"]) == (201, owner)
    address = f"{KEYS}{made.json()['id']}/"
    assert client.get(address, headers=bearer(bob)).status_code == 404
    assert post(client, KEYS, {"name": "Mine", "owner": owner}, **bearer(bob)).status_code == 400

    colleague = Employee.objects.create(user=bob, employee_number="E-2", department=research, position="Engineer")
    assert client.get(address, headers=bearer(bob)).status_code == 200
    colleague.delete()
    assert client.get(address, headers=bearer(bob)).status_code == 404


def test_the_cookie_of_a_log_in_changes_something_only_with_a_csrf_token(ada: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    assert post(browser, LOGIN, {"username": "ada", "password": "correct horse"}).status_code == 200
    assert browser.get(KEYS).json() == []

    assert post(browser, KEYS, {"name": "Forged"}).status_code == 403
    assert post(browser, KEYS, {"name": "Wrong"}, **{"X-CSRFToken": "0" * 32}).status_code == 403
    assert not APIKey.objects.exists()

    assert (
        post(browser, KEYS, {"name": "Page"}, **{"X-CSRFToken": browser.cookies["csrftoken"].value}).status_code == 201
    )


def test_whoami_is_still_for_keys_and_the_users_api_is_not(client: Client) -> None:
    headers = {"X-API-Key": str(APIKey.objects.create(name="TTS-Backend", scopes=["*"]).key)}
    assert client.get(f"{KEYS}whoami/", headers=headers).json()["name"] == "TTS-Backend"
    for answer in (client.get(KEYS, headers=headers), post(client, KEYS, {"name": "Child"}, **headers)):
        assert answer.status_code == 403
    assert APIKey.objects.count() == 1


def test_people_log_in_and_find_their_keys_in_the_pages_of_the_service(client: Client, ada: User) -> None:
    to_login = client.get(PAGES)["Location"]
    assert to_login == f"/account/login/?next={PAGES}"
    assert client.post(to_login, {"username": "ada", "password": "correct horse"})["Location"] == PAGES
    page = client.get(PAGES).text
    assert "<title>API keys | Auth service</title>" in page
    assert "Log out ada" in page
    client.cookies["access_token"] = "a JSON Web Token"
    left = client.post("/account/logout/")
    assert left["Location"] == "/account/login/"
    assert left.cookies["access_token"]["max-age"] == 0


def test_departments_are_for_users_and_for_services_with_the_scope(
    client: Client, bob: User, research: Department
) -> None:
    def status(*scopes: str) -> int:
        key = APIKey.objects.create(name="HDTS", scopes=list(scopes))
        return client.get("/api/v1/departments/", headers={"X-API-Key": str(key.key)}).status_code

    answer = client.get("/api/v1/departments/", headers=bearer(bob))
    assert answer.json() == [{"id": research.pk, "name": "Research"}]
    assert client.get("/api/v1/departments/").status_code == 401
    assert [status("employees:read"), status("users:read"), status()] == [200, 403, 403]
