"""The README's five minutes, from an empty folder to a guarded view, with a server of their own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import blocks
from tests.support.processes import ROOT


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


@pytest.mark.matrix
def test_five_minutes_from_an_empty_project_to_a_guarded_view(project: tuple[Path, dict[str, str]]) -> None:
    folder, environment = project
    steps = blocks("README.md", "## Five minutes: guard a view of your own")
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
