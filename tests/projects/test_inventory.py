"""`inventory`, like NetBox: a key acts as its user, within its scopes and the user's permissions."""

from collections.abc import Iterator

import pytest

from tests.projects.running import Project, project
from tests.support.processes import eventually

pytestmark = pytest.mark.matrix

SEED = """
from django.contrib.auth.models import Permission, User
from inventory.models import Device
from keys.models import APIKey, AuditEvent
anna, ben = (User.objects.create_user(name, password=name) for name in ("anna", "ben"))
root = User.objects.create_superuser("root", password="root")
anna.user_permissions.set(Permission.objects.filter(codename__in=["add_device", "change_device"]))
def key_of(user, *scopes):
    print(APIKey.objects.create(name="Scanner", owner=user, scopes=scopes).key)
def last_event():
    event = AuditEvent.objects.latest("pk")
    print(event.event, event.reason, event.owner, event.status)
"""


@pytest.fixture(scope="module")
def inventory() -> Iterator[Project]:
    with project("inventory") as running:
        running.shell(SEED)
        yield running


def key_of(inventory: Project, user: str, *scopes: str) -> str:
    return inventory.shell(f"key_of({user}, *{scopes!r})").strip()


def was_logged(inventory: Project, *columns: str) -> bool:
    """Tell whether this is the log's last event, once its outcome is there."""
    return eventually(lambda: inventory.shell("last_event()").split() == [*columns], seconds=5)


def test_what_a_key_adds_was_added_by_its_user(inventory: Project) -> None:
    key = key_of(inventory, "anna", "devices:write")
    answer = inventory.call("POST", "/api/devices/", key, {"name": "Router"})
    assert (answer.status_code, answer.json()["created_by"]) == (201, 1)
    assert inventory.shell("print(Device.objects.get(name='Router').created_by)") == "anna\n"
    assert was_logged(inventory, "used", "auth.user:1", "201")


def test_a_key_may_what_both_its_scopes_and_its_user_may(inventory: Project) -> None:
    inventory.shell("device = Device.objects.create(name='Switch', created_by=anna)")
    device = f"/api/devices/{inventory.shell('print(device.pk)').strip()}/"
    every_scope = ("devices:read", "devices:write", "devices:retire")

    # Scopes, by method and by action.
    reader = key_of(inventory, "root", "devices:read")
    assert inventory.call("GET", device, reader).status_code == 200
    assert inventory.call("PATCH", device, reader, {"name": "x"}).status_code == 403
    assert was_logged(inventory, "refused", "scope", "auth.user:3", "403")
    writer = key_of(inventory, "root", "devices:write")
    assert inventory.call("POST", f"{device}retire/", writer).status_code == 403
    assert was_logged(inventory, "refused", "scope", "auth.user:3", "403")
    assert inventory.call("POST", f"{device}retire/", key_of(inventory, "root", *every_scope)).json()["is_retired"]
    assert inventory.call("GET", "/api/devices/", key_of(inventory, "root")).status_code == 403

    # And the user's permissions.
    assert inventory.call("DELETE", device, key_of(inventory, "anna", *every_scope)).status_code == 403
    assert (
        inventory.call("POST", "/api/devices/", key_of(inventory, "ben", *every_scope), {"name": "x"}).status_code
        == 403
    )
    nobodys = key_of(inventory, "None", *every_scope)
    assert inventory.call("POST", "/api/devices/", nobodys, {"name": "x"}).status_code == 403


def test_people_go_on_by_their_session(inventory: Project) -> None:
    anna = inventory.log_in("anna")
    assert anna.send("POST", "/api/devices/", {"name": "Printer"}).json()["created_by"] == 1
    assert anna.get("/names/").json()["for"] == "anna"
    key = key_of(inventory, "anna", "devices:read")
    assert inventory.call("POST", "/names/", key).status_code == 200
    del anna.session.cookies["csrftoken"]
    assert anna.send("POST", "/names/").status_code == 403
    assert inventory.call("GET", "/names/").status_code == 401


def test_a_key_makes_no_keys_whoever_it_acts_as(inventory: Project) -> None:
    key = key_of(inventory, "root", "*")
    made = inventory.shell("print(APIKey.objects.count())")
    answer = inventory.call("POST", "/api/keys/", key, {"name": "x"})
    assert (answer.status_code, answer.json()) == (403, {"detail": "This endpoint is for users."})
    assert "login" in inventory.call("GET", "/account/keys/", key).url
    assert inventory.shell("print(APIKey.objects.count())") == made


def test_a_user_who_leaves_takes_the_keys_along(inventory: Project) -> None:
    inventory.shell("leaver = User.objects.create_user('leaver', password='leaver')")
    leaver = inventory.log_in("leaver")
    made = leaver.send("POST", "/api/keys/", {"name": "Laptop", "scopes": ["devices:read"]})
    assert (made.status_code, "no-store" in made.headers["Cache-Control"]) == (201, True)
    key = made.json()["key"]
    assert inventory.call("GET", "/api/devices/", key).status_code == 200
    inventory.shell("User.objects.filter(pk=leaver.pk).update(is_active=False)")
    assert inventory.call("GET", "/api/devices/", key).status_code == 401
    assert was_logged(inventory, "refused", "owner", inventory.shell("print(f'auth.user:{leaver.pk}')").strip(), "401")
