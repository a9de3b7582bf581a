"""The README keeps its promises: its blocks run, and its tables say what the code says."""

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command, get_commands
from django.db import connection
from django.dispatch import Signal
from django.test import Client
from django.urls import path
from django.utils import timezone
from django.utils.module_loading import import_string
from drf_spectacular.generators import SchemaGenerator
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from keys import checks, conf, signals
from keys.models import APIKey, AuditEvent
from keys.testing import APIKeyClient
from tests import commanding
from tests.benchmarks import report
from tests.recording_service import Answer, RecordingService
from tests.redis_server import redis_server

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def blocks(section: str) -> list[tuple[str, str]]:
    """Return language and text of each fenced block below a heading, up to the next of its rank."""
    rank = section.split(" ")[0]
    text = README.split(f"\n{section}\n")[1]
    text = re.split(rf"^{rank} ", text, maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def table(section: str) -> list[list[str]]:
    """Return the cells of the table below a heading, without its head."""
    text = README.split(f"\n{section}\n")[1].split("\n#")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    return rows[2:]


def test_the_settings_are_those_of_the_code() -> None:
    assert [row[0].strip("`") for row in table("### Settings")] == list(conf.DEFAULTS)


def test_the_commands_are_those_of_the_code() -> None:
    commands = {name for name, app in get_commands().items() if app == "keys"}
    assert {row[0].strip("`") for row in table("### Commands")} == commands


def test_the_checks_are_those_of_the_code() -> None:
    documented = re.findall(r"^(keys\.[EW]\d+)\s+(.*)$", checks.__doc__ or "", flags=re.MULTILINE)
    assert [(row[0].strip("`"), row[1]) for row in table("### System checks")] == documented


def test_the_map_names_every_module() -> None:
    mapped = set(re.findall(r"`(\w+)`", " ".join(row[0] for row in table("### The modules"))))
    modules = {
        path.stem for path in (ROOT / "keys").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    plumbing = {"__init__", "apps", "migrations", "templatetags", "__pycache__"}
    assert mapped == modules - plumbing


def test_the_names_are_those_of_the_code() -> None:
    rows = table("### Names")
    for dotted, said in ((row[0].strip("`"), row[1]) for row in rows):
        found = import_string(dotted)
        parts = {*dir(found), *inspect.signature(found).parameters, *getattr(found, "__dataclass_fields__", ())}
        named = {part.removesuffix("()") for part in re.findall(r"`([a-z_]+(?:\(\))?)`", said)}
        assert named <= parts | {"pk"}, dotted
    assert len(rows) > 20
    fields = {field.name for field in AuditEvent._meta.fields} - {"id"}
    assert fields == set(re.findall(r"`(\w+)`", next(row[1] for row in rows if "AuditEvent" in row[0])))


def test_every_dotted_name_exists() -> None:
    for dotted in re.findall(r"\bkeys\.[a-z_]+\.\w+", README):
        import_string(dotted)


@pytest.mark.django_db
def test_the_signals_are_those_of_the_code(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    documented = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[2])) for row in table("### Signals")}
    sent: dict[str, set[str]] = {name: set() for name, signal in vars(signals).items() if isinstance(signal, Signal)}
    receivers = {name: partial(_note, sent[name]) for name in sent}
    for name, receiver in receivers.items():
        getattr(signals, name).connect(receiver)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            client = APIKeyClient(expires_at=timezone.now() + timedelta(days=1))
        client.get("/guarded/")
        Client().get("/guarded/", headers={"X-API-Key": "0" * 40})
        for option in ("--expiring=14d", "--unused=0d"):
            with pytest.raises(SystemExit):
                call_command("keys_list", option, stdout=StringIO(), stderr=StringIO())
    finally:
        for name, receiver in receivers.items():
            getattr(signals, name).disconnect(receiver)
    assert sent == documented


def _note(names: set[str], signal: Signal, sender: object, **kwargs: object) -> None:
    names |= {*kwargs}


def test_the_names_for_telemetry_are_those_of_the_code() -> None:
    code = set(re.findall(r'"(api_key\.\w+)"', (ROOT / "keys" / "telemetry.py").read_text()))
    documented = set(re.findall(r"`(api_key\.\w+)`", README))
    assert documented == code - {"api_key.endpoint", "api_key.event"}  # what the counters are counted by


def test_every_block_is_run_by_a_test() -> None:
    where = Counter[tuple[str, str]]()
    heading = fence = ""
    for line in README.splitlines():
        if line.startswith("```"):
            fence = line.removeprefix("```")
            where.update([(heading, fence)] if fence else [])
        elif line.startswith("#") and not fence:
            heading = line
    assert where == {
        ("# django-service-keys", "sh"): 2,  # how the tests and the demo are run, here and by everybody else
        ("## Five minutes: guard a view of your own", "sh"): 6,
        ("## Five minutes: guard a view of your own", "python"): 2,
        ("## Five minutes: guard a view of your own", "json"): 1,
        ("## Keys", "python"): 2,
        ("## Keys", "sh"): 1,
        ("## What it costs", "sh"): 1,  # takes long, and peers that hold Django below 6
        ("## Keys from the environment", "python"): 1,
        ("### From a shared key to one of its own", "python"): 1,
        ("### Tamper evidence", "sh"): 1,
        ("### When a commit per request is too much", "python"): 1,
        ("### When a commit per request is too much", "sh"): 1,
        ("## The calling side", "python"): 2,
        ("## Around it", "python"): 4,
    }


@pytest.mark.django_db
def test_the_lines_for_the_shell_work_word_for_word(capsys: pytest.CaptureFixture[str]) -> None:
    code = next(text for language, text in blocks("## Keys") if "objects.create" in text)
    run(code)
    assert re.fullmatch(r"[0-9a-f]{40}\n", capsys.readouterr().out)
    assert not APIKey.objects.get().is_active


@pytest.mark.parametrize("section", ["## Keys", "## Keys from the environment"])
def test_the_views_and_authenticators_can_be_made(section: str) -> None:
    for language, text in blocks(section):
        if language == "python" and "objects.create" not in text:
            run(text)


def test_the_calling_side_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    by_requests, by_httpx = (text for language, text in blocks("## The calling side") if language == "python")
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
    lines = next(text for language, text in blocks("## Keys") if language == "sh").splitlines()
    for line in lines:
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
    text = blocks("### Tamper evidence")[0][1]
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
    (_, options), (_, lines), *_ = blocks("### When a commit per request is too much")
    with redis_server("--appendonly", "yes") as server:
        server_address, _, name = run(options)["KEYS"]["AUDIT_SINK"].partition("?")
        assert server_address == "redis://localhost:6379/0"
        settings.KEYS = {"AUDIT_SINK": f"{server.address.partition('?')[0]}?{name}"}
        Client().get("/guarded/", headers={"X-API-Key": "0" * 40})
        assert server.client.xlen("keys:audit") == 1
        ship, status = lines.splitlines()
        assert command(ship, "--once").status == (0 if connection.vendor == "postgresql" else 1)
        assert command(status).status == 0


def command(line: str, *more: str) -> commanding.Run:
    """Run a line of the README."""
    python, manage, *arguments = shlex.split(line, comments=True)
    assert (python, manage) == ("python", "manage.py")
    return commanding.run(*arguments, *more)


@pytest.fixture
def five_minutes(settings: Settings) -> list[Any]:
    """The addresses of the project that the README starts with."""
    text = next(text for language, text in blocks("## Five minutes: guard a view of your own") if "urls.py" in text)
    settings.ROOT_URLCONF = tuple(run(text)["urlpatterns"])
    settings.KEYS = {"SCOPES": {"orders:read": "Read orders."}}
    return list(settings.ROOT_URLCONF)


def test_the_test_of_a_project_passes(five_minutes: list[Any], api_key_client: type[APIKeyClient]) -> None:
    run(next(text for language, text in blocks("## Around it") if "api_key_client" in text))["test_orders"](
        api_key_client
    )


def test_the_project_is_documented(five_minutes: list[Any], settings: Settings) -> None:
    text = next(text for language, text in blocks("## Around it") if "drf_spectacular" in text)
    added = run(text, INSTALLED_APPS=[])
    assert all(app in settings.INSTALLED_APPS for app in added["INSTALLED_APPS"])
    assert added["REST_FRAMEWORK"].items() <= settings.REST_FRAMEWORK.items()
    generator = SchemaGenerator(patterns=five_minutes)  # type: ignore[no-untyped-call]
    operation = generator.get_schema(public=True)["paths"]["/orders/"]["get"]  # type: ignore[no-untyped-call]
    assert operation["description"] == "Scope of the API key: `orders:read`."
    assert {"APIKeyAuthentication": []} in operation["security"]
    assert {"401", "403", "503"} <= {*operation["responses"]}


@pytest.mark.django_db
def test_the_ninja_view_is_guarded(settings: Settings) -> None:
    ninja = next(text for language, text in blocks("## Around it") if "NinjaAPI" in text)
    settings.ROOT_URLCONF = (path("api/", run(ninja)["api"].urls),)
    settings.KEYS = {"SCOPES": {"orders:read": "Read orders."}}
    assert APIKeyClient(["orders:read"], name="Billing").get("/api/orders").json() == {"orders": [], "for": "Billing"}
    assert APIKeyClient([]).get("/api/orders").status_code == 403


@pytest.mark.django_db
def test_the_receiver_hears_of_a_refusal(capsys: pytest.CaptureFixture[str]) -> None:
    receiver = run(next(text for language, text in blocks("## Around it") if "@receiver" in text))["alert"]
    try:
        assert Client().get("/guarded/", headers={"X-API-Key": "0" * 40}).status_code == 401
    finally:
        assert signals.key_refused.disconnect(receiver)
    assert "Refused: a stranger at guarded, unknown." in capsys.readouterr().out


def run(text: str, **given: Any) -> dict[str, Any]:
    """Run a block of Python and return the names it leaves."""
    names: dict[str, Any] = {"__name__": "readme", **given}
    exec(compile(text, "README.md", "exec"), names)  # noqa: S102
    return names


@pytest.fixture
def project(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """An empty folder, and an environment in which `python` and `django-admin` are those of the tests."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    return tmp_path, environment


def test_five_minutes_from_an_empty_project_to_a_guarded_view(project: tuple[Path, dict[str, str]]) -> None:
    folder, environment = project
    steps = blocks("## Five minutes: guard a view of your own")
    assert [language for language, text in steps] == ["sh", "sh", "python", "python", "sh", "sh", "sh", "json", "sh"]
    install, start, settings, urls, make_key, serve, call, answer, usage = (text for language, text in steps)
    assert install == "python -m pip install .\n"  # what set up these tests has done

    def sh(script: str, **variables: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env={**environment, **variables},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    sh(start)
    folder = folder / "mysite"
    for text in (settings, urls):
        path = folder / re.match(r"# (\S+\.py)", text).group(1)  # type: ignore[union-attr]
        path.write_text(path.read_text() + text if "at the end" in text.splitlines()[0] else text)
    key = sh(f"{make_key}\necho $KEY").splitlines()[-1]
    assert re.fullmatch(r"[0-9a-f]{40}", key)

    server = subprocess.Popen(
        ["bash", "-c", serve.replace("8000", "0").replace("&", "").strip().replace("python", "exec python -u")],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        port = port_of(server)
        assert json.loads(sh(call.replace("8000", port), KEY=key)) == json.loads(answer)
        assert json.loads(sh(call.replace("8000", port), KEY="0" * 40)) == {"detail": "Invalid API key."}
    finally:
        server.terminate()
        server.communicate(timeout=60)
    report = sh(usage)
    assert "Billing" in report
    assert "/orders/" in report
    assert key not in report


def port_of(server: subprocess.Popen[str]) -> str:
    """Return the port that a `runserver 0` says it has, once it listens there."""
    assert server.stdout is not None
    for line in server.stdout:
        if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
            return found[1]
    raise AssertionError("The server did not start.")


def test_the_figures_are_those_of_the_run_that_is_kept() -> None:
    run = json.loads((ROOT / "tests" / "benchmarks" / "results.json").read_text())
    assert f"\n{report.summary(run)}\n" in README
