"""`uptime`, like healthchecks: a key belongs to a project, and the project's members look after it."""

import re
import shlex
from collections.abc import Iterator

import pytest

from tests.docs.pages import block
from tests.projects.running import Project, project

pytestmark = pytest.mark.matrix

SEED = """
from django.contrib.auth.models import User
from keys.models import APIKey, AuditEvent
from uptime.models import Project
anna, ben, eve = (User.objects.create_user(name, password=name) for name in ("anna", "ben", "eve"))
root = User.objects.create_superuser("root", password="root")
def make_project(*members):
    made = Project.objects.create(name="Nightly")
    made.members.set(members)
    print(made.pk)
def last_event():
    event = AuditEvent.objects.latest("pk")
    print(event.event, event.reason or "-", event.owner, event.actor or "-", event.detail)
"""
KEYS, PAGES = "/api/v1/keys/", "/account/keys/"


@pytest.fixture(scope="module")
def uptime() -> Iterator[Project]:
    with project("uptime") as running:
        running.shell(SEED)
        yield running


@pytest.fixture
def nightly(uptime: Project) -> str:
    """The number of a project whose members are Anna and Ben, but not Eve."""
    return uptime.shell("make_project(anna, ben)").strip()


def test_members_look_after_the_keys_of_their_project_by_the_api(uptime: Project, nightly: str) -> None:
    anna, ben, eve = (uptime.log_in(name) for name in ("anna", "ben", "eve"))
    owner = f"uptime.project:{nightly}"
    made = anna.send("POST", KEYS, {"name": "Backup", "owner": owner})
    assert (made.status_code, made.json()["scopes"], made.json()["owner"]) == (201, ["pings:write"], owner)
    key, address = made.json()["key"], f"{KEYS}{made.json()['id']}/"

    answer = uptime.call("POST", "/pings/", key)
    assert (answer.status_code, answer.json()) == (201, {"project": "Nightly", "pings": 1})

    # Each member, and nobody else, with nothing beyond what the settings allow.
    assert "key" not in ben.get(address).json()
    assert eve.get(address).status_code == 404
    assert eve.send("POST", KEYS, {"name": "Spy", "owner": owner}).status_code == 400
    assert "*" in anna.send("PATCH", address, {"scopes": ["*"]}).text
    assert uptime.call("POST", KEYS, key, {"name": "Child", "owner": owner}).status_code in {401, 403}

    successor = ben.send("POST", f"{address}rotate/", {"grace": 0})
    assert successor.status_code == 201
    assert uptime.shell("last_event()").split()[:5] == ["rotated", "-", owner, "user:", "ben"]
    assert uptime.call("POST", "/pings/", key).status_code == 401
    assert uptime.call("POST", "/pings/", successor.json()["key"]).status_code == 201


def test_and_on_pages(uptime: Project, nightly: str) -> None:
    anna = uptime.log_in("anna")
    assert "login" in uptime.call("GET", PAGES).url
    page = anna.submit(f"{PAGES}new/?owner=uptime.project:{nightly}", name="Restore", owner=f"uptime.project:{nightly}",
                       scopes="pings:write", life=str(30 * 24 * 3600))  # fmt: skip
    assert page.headers["Cache-Control"].count("no-store") == 1
    (key,) = {*re.findall(r"\b[0-9a-f]{40}\b", page.text)}
    assert uptime.call("POST", "/pings/", key).status_code == 201
    assert "Restore" in anna.get(PAGES).text
    assert key not in anna.get(PAGES).text


def test_its_own_templates_hold_the_pages(uptime: Project) -> None:
    page = uptime.log_in("root").get(PAGES).text
    assert "<title>API keys | Uptime</title>" in page
    assert "Each job needs a key, by which it says that it has run." in page
    uptime.shell("make_project(root)")
    assert f'href="{PAGES}new/"' in uptime.log_in("root").get(PAGES).text


def test_the_admin_leads_from_a_project_to_its_keys(uptime: Project, nightly: str) -> None:
    uptime.shell(f"APIKey.objects.create(name='Linked', owner=Project.objects.get(pk={nightly}))")
    root = uptime.log_in("root")
    page = root.get(f"/admin/uptime/project/{nightly}/change/")
    (link,) = re.findall(r'href="([^"]+)">1 accepted of 1<', page.text)
    assert "Linked" in root.get(link.replace("&amp;", "&")).text


def test_a_member_who_leaves_has_no_part_in_the_keys(uptime: Project, nightly: str) -> None:
    ben = uptime.log_in("ben")
    key = ben.send("POST", KEYS, {"name": "Backup", "owner": f"uptime.project:{nightly}"}).json()
    uptime.shell(f"Project.objects.get(pk={nightly}).members.remove(ben)")
    assert ben.get(f"{KEYS}{key['id']}/").status_code == 404
    assert uptime.call("POST", "/pings/", key["key"]).status_code == 201


def test_keys_rest_while_the_project_is_not_paid_and_end_with_it(uptime: Project, nightly: str) -> None:
    anna = uptime.log_in("anna")
    key = anna.send("POST", KEYS, {"name": "Backup", "owner": f"uptime.project:{nightly}"}).json()["key"]
    for is_paid, status in ((False, 401), (True, 201)):
        uptime.shell(f"Project.objects.filter(pk={nightly}).update(is_paid={is_paid})")
        assert uptime.call("POST", "/pings/", key).status_code == status

    assert anna.send("DELETE", f"/projects/{nightly}/").status_code == 204

    assert uptime.shell("last_event()") == (
        f"deactivated - uptime.project:{nightly} user: anna owner uptime.project:{nightly} was deleted\n"
    )
    assert uptime.call("POST", "/pings/", key).status_code == 401
    assert "Backup" in uptime.manage("keys_usage", "--owner", f"uptime.project:{nightly}")


def test_the_manuals_lines_for_the_shell_work(uptime: Project) -> None:
    uptime.shell(block("docs/owners.md", "## Making one", "python"))
    assert uptime.shell("print(key.owner, key.owner_ref, list(APIKey.objects.owned_by(project)) == [key])") == (
        uptime.shell("print(f'Nightly uptime.project:{project.pk} True')")
    )
    number = uptime.shell("print(project.pk)").strip()
    count = "print(APIKey.objects.owned_by(project).accepted().count())"
    for heading, accepted in (("## Making one", "2\n"), ("## When the owner is deleted", "0\n")):
        for line in block("docs/owners.md", heading, "sh").splitlines():
            uptime.manage(*shlex.split(line.replace("uptime.project:1", f"uptime.project:{number}"))[2:])
        assert uptime.shell(count) == accepted

    uptime.shell(block("docs/owners.md", "## What may own keys", "python"))

    assert uptime.shell("print(APIKey.objects.exclude(owner_ref='').count())") == "0\n"
