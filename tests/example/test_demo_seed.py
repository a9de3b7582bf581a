"""The sample data of `manage.py demo`, its log-ins, and what becomes of earlier runs."""

import json
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from pytest_django.fixtures import Settings

from example_project.demo.cast import ACTOR, remove_earlier_keys
from example_project.demo.seed import ADMIN, admin_password, fill_in
from keys import actor
from keys.models import APIKey


@pytest.mark.django_db
def test_seed_is_the_same_each_time(settings: Settings) -> None:
    settings.DEBUG = True
    first, second = StringIO(), StringIO()
    call_command("demo", "--seed", stdout=first)
    call_command("demo", "--seed", stdout=second)
    assert first.getvalue() == second.getvalue()
    data = json.loads(first.getvalue())
    for person in (*data["users"], data["admin"]):
        user = User.objects.get(username=person["username"])
        assert user.pk == person.get("id", user.pk)
        assert user.has_usable_password() is (person["password"] is not None)
        assert not user.has_usable_password() or user.check_password(person["password"])
    departments = {department["id"]: department["name"] for department in data["departments"]}
    assert sorted(departments.values()) == ["IT", "Research", "Sales"]
    assert all(employee["department"] in departments for employee in data["employees"])
    assert len({user["password"] for user in (*data["users"], data["admin"])}) == 4


@pytest.mark.django_db
def test_passwords_cannot_be_known_from_outside() -> None:
    before = fill_in().passwords
    User.objects.all().delete()
    assert before.keys() == fill_in().passwords.keys()
    assert not set(before.values()) & set(fill_in().passwords.values())


@pytest.mark.django_db
def test_an_admin_who_is_there_is_left_alone(settings: Settings) -> None:
    settings.DEBUG = True
    User.objects.create_superuser(ADMIN, password="of somebody else")
    fill_in()
    assert admin_password() is None
    assert User.objects.get(username=ADMIN).check_password("of somebody else")


@pytest.mark.django_db
def test_no_admin_without_debug(settings: Settings) -> None:
    settings.DEBUG = False
    sample = fill_in()
    assert admin_password() is None
    assert sample.as_json(None)["admin"] is None
    assert not User.objects.filter(is_superuser=True).exists()


@pytest.mark.django_db
def test_removes_its_own_earlier_keys_alone() -> None:
    with actor.acting_as(ACTOR):
        _, running, fresh = (APIKey.objects.create(name="TTS", is_active=on) for on in (False, True, False))
        APIKey.objects.create(name="TTS", expires_at="2020-02-01T00:00:00Z")
    with actor.acting_as("user: demo-anna"):
        APIKey.objects.create(name="Anna-Laptop", is_active=False)
    theirs = APIKey.objects.create(name="TTS-Backend", is_active=False)
    APIKey.objects.exclude(pk=fresh.pk).update(created_at="2020-01-01T00:00:00Z")
    remove_earlier_keys()
    assert set(APIKey.objects.values_list("pk", flat=True)) == {running.pk, fresh.pk, theirs.pk}
