"""The package as it is installed, from a wheel, beside projects that have a module `keys` of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT

OWN = "OURS = True\n"
TEST = "import keys\n\ndef test_our_own():\n    assert keys.OURS\n"
PROJECTS = {
    "a module": {"keys.py": OWN, "test_keys.py": TEST},
    "a package": {"keys/__init__.py": OWN, "test_keys.py": TEST},
    "a package with a plugin": {"keys/__init__.py": OWN, "keys/pytest_plugin.py": "1 / 0\n", "test_keys.py": TEST},
    "in src": {"src/keys.py": OWN, "pytest.ini": "[pytest]\npythonpath = src\n", "tests/test_keys.py": TEST},
    "loaded by the conftest": {"keys.py": OWN, "conftest.py": "import keys\n", "tests/test_keys.py": TEST},
    "by another import mode": {
        "keys.py": OWN,
        "test_keys.py": TEST,
        "pytest.ini": "[pytest]\npythonpath = .\naddopts = --import-mode=importlib\n",
    },
    "tests in a package": {"keys.py": OWN, "conftest.py": "", "tests/__init__.py": "", "tests/test_keys.py": TEST},
}
FIXTURE = "def test_fixture(api_key_client):\n    assert api_key_client().get('/guarded/').status_code == 200\n"

pytestmark = pytest.mark.matrix


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the wheel is installed, and nothing else."""
    pytest.importorskip("hatchling")
    wheels, site = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", wheels], cwd=ROOT, check=True)
    (wheel,) = wheels.glob("*.whl")
    # Where there is no pip: a wheel without scripts is installed by being unpacked.
    subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, site], check=True)
    return site


def make(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(text)


def run(folder: Path, site: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    environment |= {"PYTHONPATH": os.pathsep.join([str(site), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])}
    return subprocess.run(
        [sys.executable, *options], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("files", PROJECTS.values(), ids=PROJECTS)
@pytest.mark.parametrize("start", [["-m"], ["-P", "-m"]], ids=["python -m pytest", "pytest"])
def test_a_project_with_its_own_keys_goes_on(
    site: Path, tmp_path: Path, files: dict[str, str], start: list[str]
) -> None:
    make(tmp_path, files)
    done = run(tmp_path, site, *start, "pytest", "-q", "-W", "error", "-p", "no:django")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_the_plugin_of_the_wheel_is_loaded_under_a_name_of_its_own(site: Path, tmp_path: Path) -> None:
    done = run(tmp_path, site, "-m", "pytest", "-q", "--fixtures", "-p", "no:django")
    assert "api_key_client -- ../" in done.stdout
    assert "django_service_keys_pytest.py" in done.stdout


def test_a_fixture_that_cannot_work_says_why(site: Path, tmp_path: Path) -> None:
    make(tmp_path, {"keys.py": OWN, "test_keys.py": "import keys\n\n" + FIXTURE, "conftest.py": DATABASE})
    done = run(tmp_path, site, "-m", "pytest", "-q", "-p", "no:django")
    assert "a module of its own by that name" in done.stdout
    assert str(tmp_path / "keys.py") in done.stdout
    assert "'keys' is not a package" not in done.stdout


# What pytest-django gives where it is.
DATABASE = "import pytest\n\n@pytest.fixture\ndef db():\n    pass\n"


def test_a_project_that_uses_ours_has_the_fixture(site: Path, tmp_path: Path) -> None:
    settings = "from tests.settings import *\nDATABASES['default'] = {'ENGINE': 'django.db.backends.sqlite3'}\n"
    make(tmp_path, {"their_settings.py": settings, "test_guarded.py": FIXTURE})
    paths = f"import sys; sys.path += [{str(ROOT)!r}, '.']; import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    done = run(tmp_path, site, "-c", paths, "-q", "--ds=their_settings", "--no-migrations", "-p", "no:cacheprovider")
    assert "1 passed" in done.stdout, done.stdout + done.stderr
