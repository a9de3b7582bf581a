"""Every block of the README and of the manual runs; the README's first chapter has a file of its own."""

import re
import shlex
import subprocess
import sys
import unittest
from collections import Counter
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.http import JsonResponse
from django.test import Client
from django.urls import path
from drf_spectacular.generators import SchemaGenerator
from pytest_django import Settings
from rest_framework.authtoken.models import Token

from keys import signals
from keys.models import APIKey
from keys.testing import APIKeyClient
from tests.docs.pages import PAGES, block, blocks, run, sections
from tests.projects.running import PROJECTS
from tests.support import commands
from tests.support.processes import ROOT
from tests.support.recording_service import Answer, RecordingService
from tests.support.redis_servers import redis_server


def test_every_block_is_run_by_a_test() -> None:
    where = Counter(
        (page, section.heading, language)
        for page in PAGES
        for section in sections(page)
        for language, _ in section.blocks
        if not language.startswith("{")  # what Sphinx is told
    )
    five_minutes = "## Five minutes: guard a view of your own"
    assert where == {
        ("README.md", "# django-service-keys", "sh"): 2,  # the tests and the demo, run by .ci/run and everybody else
        ("README.md", five_minutes, "sh"): 6,
        ("README.md", five_minutes, "python"): 2,
        ("README.md", five_minutes, "json"): 1,
        ("README.md", "## Keys", "python"): 1,
        ("README.md", "## Keys", "sh"): 1,
        ("README.md", "## The manual", "sh"): 1,  # run by .ci/run
        ("docs/building.md", "## Other people's settings", "sh"): 1,
        ("docs/calling.md", "# The calling side", "python"): 1,
        ("docs/calling.md", "## httpx", "python"): 1,
        ("docs/costs.md", "# What it costs", "sh"): 1,  # takes long, and peers that hold Django below 6
        ("docs/day-after.md", "## Back on the same day", "sh"): 1,  # these by tests/docs/test_day_after.py
        ("docs/day-after.md", "## Back with the tables", "sh"): 1,
        ("docs/day-after.md", "## A month beside each other", "sh"): 4,
        ("docs/day-after.md", "## The day on which the old one goes", "sh"): 1,
        ("docs/environment-keys.md", "# Keys from the environment", "python"): 1,
        ("docs/environment-keys.md", "## From a shared key to one of its own", "python"): 1,
        ("docs/gateway.md", "## What a proxy asks", "python"): 1,  # by tests/gateway/test_manual.py
        # By tests/gateway/test_nginx.py. Pygments cannot read nginx's expressions with braces.
        ("docs/gateway.md", "## nginx", "text"): 3,
        ("docs/gateway.md", "### What the question costs", "sh"): 1,  # takes long
        ("docs/guarding.md", "## In which header", "python"): 1,
        ("docs/guarding.md", "## Answers in your own form", "python"): 1,  # by tests/guarding/test_refusal_response.py
        ("docs/guarding.md", "## Django Ninja", "python"): 2,  # one of them by tests/guarding/test_login_required.py
        ("docs/guarding.md", "## OpenAPI", "python"): 1,
        ("docs/guarding.md", "## Plain Django views", "python"): 1,
        # By tests/keyrings/test_manual.py.
        ("docs/keyrings.md", "## Another service", "python"): 1,
        ("docs/keyrings.md", "## Another system's keys", "python"): 2,
        ("docs/keyrings.md", "## Slow hashes", "python"): 1,
        ("docs/monitoring.md", "## Signals", "python"): 1,
        ("docs/moves.md", "# Four moves, step by step", "sh"): 1,
        ("docs/moves.md", "## Tokens of users, in `Authorization: Token`", "python"): 10,
        ("docs/moves.md", "## Tokens of users, in `Authorization: Token`", "sh"): 4,
        ("docs/moves.md", "## An HMAC with a pepper, in `Authorization: Token`", "python"): 8,
        ("docs/moves.md", "## An HMAC with a pepper, in `Authorization: Token`", "sh"): 4,
        ("docs/moves.md", "## A plain table, behind `Authorization: Bearer`", "python"): 10,
        ("docs/moves.md", "## A plain table, behind `Authorization: Bearer`", "sh"): 4,
        ("docs/moves.md", "## SHA-256 digests with a prefix, in a header of your own", "python"): 8,
        ("docs/moves.md", "## SHA-256 digests with a prefix, in a header of your own", "sh"): 4,
        ("docs/moving-in.md", "## Two systems in one header", "python"): 1,
        ("docs/moving-in.md", "### The old class first", "python"): 1,
        ("docs/moving-in.md", "### From any table", "sh"): 1,  # by tests/commands/test_keys_import_tables.py
        ("docs/owners.md", "# Whose key is it?", "python"): 3,
        ("docs/owners.md", "## Making one", "python"): 1,
        ("docs/owners.md", "## Making one", "sh"): 1,
        ("docs/owners.md", "## At each use", "python"): 1,
        ("docs/owners.md", "## When the owner is deleted", "sh"): 1,
        ("docs/owners.md", "## What may own keys", "python"): 1,
        ("docs/owners.md", "## In the admin", "python"): 1,
        ("docs/people.md", "## Users, or services with a scope", "python"): 1,
        ("docs/people.md", "## Who is `request.user`", "python"): 2,  # by the worlds of these packages
        ("docs/people.md", "## A key that acts as its user", "python"): 4,
        ("docs/people.md", "## Plain views for both", "python"): 1,
        ("docs/scale.md", "## When a commit per request is too much", "python"): 1,
        ("docs/scale.md", "## When a commit per request is too much", "sh"): 1,
        ("docs/security.md", "## Error reports", "python"): 1,  # run in the world `sentry`: it patches Django for good
        ("docs/self-service.md", "# Users look after their own keys", "python"): 3,
        ("docs/self-service.md", "# Users look after their own keys", "html"): 1,
        ("docs/self-service.md", "## The API", "python"): 2,
        ("docs/self-service.md", "## The pages", "html"): 2,
        ("docs/tamper-evidence.md", "# Tamper evidence", "sh"): 1,
        ("docs/testing.md", "# Your tests", "python"): 1,
        ("docs/testing.md", "## Counting queries", "python"): 1,
        ("docs/testing.md", "## Keys for a whole class of tests", "python"): 1,
    }


def test_the_blocks_that_take_long_are_run_by_ci() -> None:
    marked = re.findall(r"^<!-- (\w+) -->\n```sh$", PAGES["README.md"], flags=re.MULTILINE)
    run_there = re.findall(r"^run_from_readme (\w+)$", (ROOT / ".ci" / "run").read_text(), flags=re.MULTILINE)
    assert sorted(marked) == sorted(run_there) == ["demo", "docs", "test"]


def test_the_projects_hold_the_blocks_that_name_a_file_of_theirs() -> None:
    """Which tests/projects drives over HTTP; the other blocks of these chapters are run there, too."""
    found: Counter[str] = Counter()
    for page in ("docs/owners.md", "docs/people.md", "docs/self-service.md"):
        for language, text in (fenced for section in sections(page) for fenced in section.blocks):
            head, _, rest = text.partition("\n")
            if path := re.match(r"(?:#|\{#) ((?:uptime|inventory)/[\w./]+)", head):
                assert rest in (ROOT / "tests" / "projects" / path[1]).read_text(), head
                found[language] += 1
    assert found == {"python": 15, "html": 3}


def test_the_moves_are_made_with_the_files_and_the_commands_that_the_manual_shows() -> None:
    """By tests/projects/test_moves.py, which runs the blocks for a shell."""
    found, steps = set(), Counter[str]()
    for language, text in (fenced for section in sections("docs/moves.md")[2:] for fenced in section.blocks):
        head, _, rest = text.partition("\n")
        if language == "sh":
            steps[head] += 1
            continue
        path = re.fullmatch(r"# (\w+)/(\w+\.py), (before|step \d)(, at the end)?", head)
        assert path, head
        file = PROJECTS / path[1] / path[3].replace(" ", "_") / path[2]
        held = file.read_text()
        assert held.endswith(f"\n{rest}") if path[4] else held == rest, head
        found.add(file)
    assert {file for file in found if file.parent.name != "before"} == {*PROJECTS.glob("*/step_*/*.py")}
    assert steps == {f"# step {number}": 4 for number in (1, 2, 3, 4)}


@pytest.mark.matrix
def test_two_worlds_are_run_by_name() -> None:
    command = shlex.split(block("docs/building.md", "## Other people's settings", "sh"))
    assert command[:3] == ["python", "-m", "tests.worlds"]

    ended = subprocess.run([sys.executable, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
    assert {line.partition(":")[0] for line in ended.stdout.splitlines()} == {*command[3:], "2 worlds, 0 failed."}


def test_a_world_that_there_is_not_is_named() -> None:
    command = [sys.executable, "-m", "tests.worlds", "paradise"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, "There is no world paradise." in ended.stderr) == (2, True)


@pytest.mark.django_db
def test_the_lines_for_the_shell_work_word_for_word(capsys: pytest.CaptureFixture[str]) -> None:
    run(block("README.md", "## Keys", "python"))
    assert re.fullmatch(r"[0-9a-f]{40}\n", capsys.readouterr().out)
    assert not APIKey.objects.get().is_active


@pytest.mark.parametrize(
    ("page", "heading"),
    [
        ("docs/guarding.md", "## Plain Django views"),
        ("docs/people.md", "## Users, or services with a scope"),
        ("docs/environment-keys.md", "# Keys from the environment"),
        ("docs/environment-keys.md", "## From a shared key to one of its own"),
    ],
)
def test_the_views_and_authenticators_can_be_made(page: str, heading: str) -> None:
    run(block(page, heading, "python"))


def test_the_calling_side_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    by_requests = block("docs/calling.md", "# The calling side", "python")
    by_httpx = block("docs/calling.md", "## httpx", "python")
    key = "0" * 40
    with RecordingService(key) as service:
        service.answers["/api/v1/tts/users-info/"] = [Answer(body=b'{"users": [{"id": 1}], "missing": [2]}')]
        monkeypatch.setenv("AUTH_SERVICE_URL", service.url)
        monkeypatch.setenv("AUTH_API_KEY", key)
        for text in (by_requests, by_httpx):
            names = run(text)
            assert names["users"] == [{"id": 1}]
            (names["session"] if text is by_requests else names["client"]).close()
        assert service.received_keys == [key, key]
        assert {received.body.replace(b" ", b"") for received in service.received} == {b'{"ids":[1,2]}'}


@pytest.mark.django_db
def test_the_commands_of_a_rotation_work(capsys: pytest.CaptureFixture[str]) -> None:
    APIKey.objects.create(name="Billing")
    for line in block("README.md", "## Keys", "sh").splitlines():
        assert line.startswith("python manage.py keys_")
        call_command(*line.split()[2:])
    printed = capsys.readouterr().out
    assert re.match("[0-9a-f]{40}\n", printed)
    assert len(re.findall("^ *[0-9]+ +Billing ", printed, flags=re.MULTILINE)) == 2


@pytest.mark.django_db
def test_the_commands_against_tampering_work(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYS_SEAL_KEY", "s" * 32)
    settings.KEYS = {"SEAL_AFTER": timedelta(0)}
    APIKey.objects.create(name="Billing")
    text = block("docs/tamper-evidence.md", "# Tamper evidence", "sh")
    for line in text.replace("/mnt/elsewhere", str(tmp_path)).splitlines():
        command, _, kept = line.partition(" >> ")
        if "keys_guard" in command and connection.vendor not in {"postgresql", "sqlite"}:
            continue
        printed = StringIO()
        call_command(*command.split()[2:], stdout=printed, stderr=StringIO())
        if kept:
            Path(kept).write_text(printed.getvalue())


@pytest.mark.django_db
def test_a_stream_is_set_up_shipped_and_looked_at(settings: Settings) -> None:
    (_, options), (_, lines) = blocks("docs/scale.md", "## When a commit per request is too much")
    with redis_server("--appendonly", "yes") as server:
        server_address, _, name = run(options)["KEYS"]["AUDIT_SINK"].partition("?")
        assert server_address == "redis://localhost:6379/0"
        settings.KEYS = {"AUDIT_SINK": f"{server.address.partition('?')[0]}?{name}"}
        Client().get("/guarded/", headers={"X-API-Key": "0" * 40})
        assert server.client.xlen("keys:audit") == 1
        ship, status = lines.splitlines()
        assert command(ship, "--once").status == (0 if connection.vendor == "postgresql" else 1)
        assert command(status).status == 0


def command(line: str, *more: str) -> commands.Run:
    """Run a line of a block for a shell."""
    python, manage, *arguments = shlex.split(line, comments=True)
    assert (python, manage) == ("python", "manage.py")
    return commands.run(*arguments, *more)


@pytest.fixture
def five_minutes(settings: Settings) -> list[Any]:
    """The addresses of the project that the README starts with."""
    text = block("README.md", "## Five minutes: guard a view of your own", "python", with_text="urls.py")
    settings.ROOT_URLCONF = tuple(run(text)["urlpatterns"])
    settings.KEYS = {"SCOPES": {"orders:read": "Read orders."}}
    return list(settings.ROOT_URLCONF)


def test_the_test_of_a_project_passes(five_minutes: list[Any], api_key_client: type[APIKeyClient]) -> None:
    run(block("docs/testing.md", "# Your tests", "python"))["test_orders"](api_key_client)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("heading", ["## Keys for a whole class of tests", "## Counting queries"])
def test_the_test_cases_of_a_project_pass(five_minutes: list[Any], heading: str) -> None:
    names = run(block("docs/testing.md", heading, "python"))
    (case,) = (each for name, each in names.items() if name.endswith("Test"))
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert (result.testsRun, result.failures, result.errors) == (1, [], [])


def test_the_project_is_documented(five_minutes: list[Any], settings: Settings) -> None:
    added = run(block("docs/guarding.md", "## OpenAPI", "python"), INSTALLED_APPS=[])
    assert all(app in settings.INSTALLED_APPS for app in added["INSTALLED_APPS"])
    assert added["REST_FRAMEWORK"].items() <= settings.REST_FRAMEWORK.items()
    generator = SchemaGenerator(patterns=five_minutes)  # type: ignore[no-untyped-call]
    operation = generator.get_schema(public=True)["paths"]["/orders/"]["get"]  # type: ignore[no-untyped-call]
    assert operation["description"] == "Scope of the API key: `orders:read`."
    assert {"APIKeyAuthentication": []} in operation["security"]
    assert {"401", "403", "503"} <= {*operation["responses"]}


@pytest.mark.django_db
def test_a_key_is_accepted_in_each_place(settings: Settings) -> None:
    names = run(block("docs/guarding.md", "## In which header", "python"), JsonResponse=JsonResponse)
    settings.ROOT_URLCONF = (path("orders/", names["orders"]),)
    settings.KEYS = {"SCOPES": {"orders:read": "Read orders."}}
    reader: Any = names["PartnerKey"]
    for way in (*({"header": name} for name in reader.header), *({"keyword": word} for word in reader.keyword)):
        assert APIKeyClient(["orders:read"], name="Billing", **way).get("/orders/").json() == {"for": "Billing"}


@pytest.mark.django_db
def test_the_ninja_view_is_guarded(settings: Settings) -> None:
    ninja = block("docs/guarding.md", "## Django Ninja", "python", with_text="NinjaAPI")
    settings.ROOT_URLCONF = (path("api/", run(ninja)["api"].urls),)
    settings.KEYS = {"SCOPES": {"orders:read": "Read orders."}}
    assert APIKeyClient(["orders:read"], name="Billing").get("/api/orders").json() == {"orders": [], "for": "Billing"}
    assert APIKeyClient([]).get("/api/orders").status_code == 403


@pytest.mark.django_db
def test_two_systems_share_a_header(settings: Settings) -> None:
    both = run(block("docs/moving-in.md", "## Two systems in one header", "python"))
    patient = run(block("docs/moving-in.md", "### The old class first", "python"))["OldTokens"]
    last = type("Last", (both["ServiceKeys"],), {"leaves_unknown": False})
    orders = both["Orders"]
    settings.KEYS = {"SCOPES": {"orders:read": "Read orders."}}
    settings.ROOT_URLCONF = (
        path("first/", orders.as_view()),
        path("last/", orders.as_view(authentication_classes=[patient, last])),
    )
    key = APIKey.objects.create(name="Billing", scopes=["orders:read"])
    token = Token.objects.create(user=User.objects.create(username="anna"))
    for address in ("/first/", "/last/"):
        for one, name in ((key, "key:Billing"), (token, "anna")):
            headers = {"Authorization": f"Token {one.key}"}
            assert Client().get(address, headers=headers).json() == {"for": name}
        assert Client().get(address, headers={"Authorization": f"Token {'0' * 40}"}).status_code == 401
    assert not [name for name in ("keys.E039", "keys.W039", "keys.W040") if commands.found(name)]


@pytest.mark.django_db
def test_the_receiver_hears_of_a_refusal(capsys: pytest.CaptureFixture[str]) -> None:
    receiver = run(block("docs/monitoring.md", "## Signals", "python"))["alert"]
    try:
        assert Client().get("/guarded/", headers={"X-API-Key": "0" * 40}).status_code == 401
    finally:
        assert signals.key_refused.disconnect(receiver)
    assert "Refused: a stranger at guarded, unknown." in capsys.readouterr().out
