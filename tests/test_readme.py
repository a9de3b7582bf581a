"""The README keeps its promises: its blocks run, and its tables say what the code says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands

from keys import checks, conf
from keys.models import APIKey

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


@pytest.mark.django_db
def test_the_lines_for_the_shell_work_word_for_word(capsys: pytest.CaptureFixture[str]) -> None:
    code = next(text for language, text in blocks("## Keys") if "objects.create" in text)
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102
    assert re.fullmatch(r"[0-9a-f]{40}\n", capsys.readouterr().out)
    assert not APIKey.objects.get().is_active


@pytest.mark.parametrize("section", ["## Keys", "## Keys from the environment", "## The calling side"])
def test_every_other_python_block_runs(section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTH_SERVICE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AUTH_API_KEY", "0" * 40)
    for language, text in blocks(section):
        if language == "python" and "objects.create" not in text:
            calls = re.compile(r"^users = .*\n", flags=re.MULTILINE)  # needs the service, which the demo plays
            exec(compile(calls.sub("", text), "README.md", "exec"), {})  # noqa: S102


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
