"""Whoever deletes an owner ends the keys, in the same transaction, and their events say why."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection, transaction
from django.db.models.signals import pre_delete
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django import Settings

from keys.actor import acting_as
from keys.models import APIKey, AuditEvent
from keys.verification import objection_to
from tests.ownership import LISTED
from tests.ownership.models import Building, Company, Hotel, Project, Shop, Team, Till

keys: Any = APIKey.objects  # types do not know that a key is made with an owner

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _owners_are_on(settings: Settings) -> None:
    settings.KEYS = {**settings.KEYS, "OWNERS": LISTED}


def ended() -> list[tuple[str, str, str]]:
    found = AuditEvent.objects.filter(event="deactivated").order_by("id")
    return list(found.values_list("key_name", "detail", "owner"))


def project_of_a_team() -> tuple[Any, Any]:
    project = Project.objects.create(team=Team.objects.create())
    return project, project.team


def till_of_a_shop() -> tuple[Any, Any]:
    till = Till.objects.create(shop=Shop.objects.create(code="A:1"))
    return till, till.shop


# The owner, and what is deleted.
MADE: dict[str, Callable[[], tuple[Any, Any]]] = {
    "itself": lambda: (user := User.objects.create(username="anna"), user),
    "a copy with the text of its key": lambda: (company := Company.objects.create(), Company(pk=company.pk.hex)),
    "with what it hangs on": project_of_a_team,
    "with what is its primary key": till_of_a_shop,
    "its child": lambda: (hotel := Hotel.objects.create(), hotel),
    "the parent of a child": lambda: (hotel := Hotel.objects.create(), Building.objects.get(pk=hotel.pk)),
}
HOW: dict[str, Callable[[Any], Any]] = {
    "instance": lambda row: row.delete(),
    "queryset": lambda row: type(row)._base_manager.filter(pk=row.pk).delete(),
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("made", MADE)
def test_its_keys_end(made: str, how: str) -> None:
    owner, row = MADE[made]()
    key = keys.create(name="A", owner=owner)
    keys.create(name="B", owner=User.objects.create(username="ben"))
    inactive = keys.create(name="C", owner=owner, is_active=False)
    successor = key.rotate()
    ref = key.owner_ref
    with acting_as("cron: nightly"):
        HOW[how](row)
    assert sorted(ended()) == [("A", f"owner {ref} was deleted", ref)] * 2
    assert set(AuditEvent.objects.filter(event="deactivated").values_list("actor", flat=True)) == {"cron: nightly"}
    assert sorted(APIKey.objects.accepted().values_list("name", flat=True)) == ["B"]
    assert {key.pk, successor.pk, inactive.pk} == {*APIKey.objects.of_owner(ref).values_list("pk", flat=True)}


def test_the_rows_of_the_parent_may_stay(settings: Settings) -> None:
    hotel = Hotel.objects.create()
    key = keys.create(name="A", owner=hotel)
    hotel.delete(keep_parents=True)
    assert (Building.objects.count(), ended(), objection_to(key, None)) == (1, [], "")


def test_the_admins_action_does(admin_client: Client) -> None:
    users = [User.objects.create(username=name) for name in ("anna", "ben")]
    for user in users:
        keys.create(name=user.username, owner=user)
    data = {"action": "delete_selected", "_selected_action": [user.pk for user in users], "post": "yes"}
    assert admin_client.post(reverse("admin:auth_user_changelist"), data).status_code == 302
    assert sorted(name for name, _, _ in ended()) == ["anna", "ben"]
    assert {*AuditEvent.objects.filter(event="deactivated").values_list("actor", flat=True)} == {"user: admin"}


def test_what_is_rolled_back_has_not_happened() -> None:
    user = User.objects.create(username="anna")
    key = keys.create(name="A", owner=user)
    with transaction.atomic():
        user.delete()
        assert not APIKey.objects.get(pk=key.pk).is_active
        transaction.set_rollback(True)
    assert (APIKey.objects.get(pk=key.pk).is_active, ended()) == (True, [])


def test_a_deletion_that_failed_ends_nothing_later() -> None:
    """The same instance may be deleted again, when something else hangs on it."""
    team = Team.objects.create()
    moving, staying = Project.objects.create(team=team), Project.objects.create(team=team)
    for name, project in (("moving", moving), ("staying", staying)):
        keys.create(name=name, owner=project)

    def refuse(**kwargs: object) -> None:
        raise RuntimeError

    pre_delete.connect(refuse, sender=Team)
    try:
        with pytest.raises(RuntimeError), transaction.atomic():
            team.delete()
    finally:
        pre_delete.disconnect(refuse, sender=Team)
    Project.objects.filter(pk=moving.pk).update(team=None)
    late = keys.create(name="late", owner=staying)
    team.delete()
    assert sorted(name for name, _, _ in ended()) == ["late", "staying"]
    assert not APIKey.objects.get(pk=late.pk).is_active


def test_raw_sql_ends_them_too_although_it_tells_nobody() -> None:
    user = User.objects.create(username="anna")
    key = keys.create(name="A", owner=user)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM auth_user WHERE id = %s", [user.pk])
    assert (APIKey.objects.get(pk=key.pk).is_active, objection_to(APIKey.objects.get(pk=key.pk), None)) == (
        True,
        "owner",
    )


def test_one_that_is_made_anew_gets_none_of_them() -> None:
    shop = Shop.objects.create(code="anna")
    key = keys.create(name="A", owner=shop)
    shop.delete()
    Shop.objects.create(code="anna")
    assert objection_to(APIKey.objects.get(pk=key.pk), None) == "inactive"


def test_a_thousand_owners_cost_a_few_statements() -> None:
    def cost(number: int) -> int:
        made = Company.objects.bulk_create([Company() for _ in range(number)])
        keys.create(name="A", owner=made[number // 2])
        with CaptureQueriesContext(connection) as queries:
            Company.objects.all().delete()
        assert not APIKey.objects.accepted().exists()
        return len([query for query in queries if "keys_" in query["sql"]])

    few, many = cost(2), cost(1000)
    assert many - few == 1  # one more look for each 500


def test_who_owns_nothing_is_deleted_as_before(settings: Settings) -> None:
    def cost(model: Any) -> int:
        with CaptureQueriesContext(connection) as queries:
            model.objects.all().delete()
        return len(queries)

    groups = cost(Group)
    settings.KEYS = {**settings.KEYS, "OWNERS": []}
    company = Company.objects.create()
    # In one statement, for which Django asks nobody.
    assert (cost(Company), cost(Group)) == (1, groups)
    settings.KEYS = {**settings.KEYS, "OWNERS": ["nosuch.Model"]}
    company.delete()
