"""`manage.py demo`, run as people run it, and the parts of it that only a failure would show."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
import requests
from django.core.management import call_command
from django.core.management.base import CommandError
from django.core.management.color import color_style, no_style
from pytest_django.fixtures import Settings
from pytest_django.live_server_helper import LiveServer

from example_project.demo import behind_nginx
from example_project.demo.calls import AUTH_SERVICE, TTS_BACKEND, Call, Caller, Scene
from example_project.demo.cast import ACTOR, NOBODY, Cast, with_key
from example_project.demo.management.commands.demo import Command
from example_project.demo.printing import Page
from example_project.demo.processes import Service
from example_project.demo.seed import fill_in
from example_project.demo.stage import Stage
from example_project.settings import BASE_DIR
from keys import actor
from tests.support.processes import eventually

pytestmark = pytest.mark.matrix

# Values that would be refused, and would send the services and their callers astray.
ODD = {
    "INTERNAL_API_KEY": "short",
    "WEBHOOK_API_KEY": ",",
    "TRACKING_INGEST_API_KEY": "short",
    "TRACKING_INGEST_ALLOW_SHARED_KEY": "perhaps",
    "AUTH_SERVICE_URL": "nowhere",
    "AUTH_API_KEY": "short",
    "AUTH_API_KEY_NEXT": "short",
    "TRUSTED_PROXIES": "3",
    "ALLOWED_HOSTS": "auth.example.com",
    "HTTP_PROXY": "http://127.0.0.1:9",
}
PLAIN = {"DJANGO_SETTINGS_MODULE": "example_project.settings", "DEBUG": "true", "CACHE_URL": "", "SECRET_KEY": ""}
HAS_NGINX = behind_nginx.is_there()
SECRETS = re.compile(r"\b[0-9a-f]{40}\b|eyJ[\w-]+\.")


MANAGE = [str(BASE_DIR / "manage.py")]
# The same, on a machine that has no nginx.
WITHOUT_NGINX = [
    "-c",
    "import sys; from django.core.management import execute_from_command_line as run;"
    "from example_project.gateway import running;"
    "running.COMMANDS = {'nginx.conf': ('no-such-program',)};"
    "run(['manage.py', *sys.argv[1:]])",
]


@contextmanager
def start(
    database: Path, *options: str, program: Sequence[str] = MANAGE, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, *program, "demo", *options],
        cwd=database.parent,
        env=os.environ | PLAIN | {"DATABASE_URL": f"sqlite:///{database}"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as demo:
        try:
            yield demo
        finally:
            demo.kill()


def test_plays_and_serves_whatever_the_environment_holds_and_leaves_nothing_behind(tmp_path: Path) -> None:
    database = tmp_path / "db.sqlite3"
    with start(database, "--serve", **ODD) as demo:
        assert demo.stdout is not None
        page = ""
        while "TTS backend  http" not in page:
            line = demo.stdout.readline()
            assert line, demo.communicate()
            page += line
        addresses = re.search(r"(http://\S+/admin/)  (\S+) / (\S+)", page)
        greetings = re.search(r"TTS backend  (\S+)", page)
        gateway = re.search(r"gateway      (\S+)  opens", page)
        assert addresses is not None
        assert (gateway is not None) is HAS_NGINX
        if gateway is not None:
            assert re.search(rf"curl -H .*keys_create.* \\\n +{gateway[1]}\n", page)
            assert requests.get(gateway[1], timeout=60).status_code == 401
        assert greetings is not None
        assert log_in_to_admin(*addresses.groups())
        assert requests.get(greetings[1], timeout=60).json()["greetings"].popitem()[1] == "Hello Anna Berg."
        demo.send_signal(signal.SIGINT)
        rest, errors = demo.communicate(timeout=120)
    page += rest
    assert (demo.returncode, errors) == (0, "")
    for address in (addresses[1], greetings[1], *([gateway[1]] if gateway is not None else [])):
        with pytest.raises(requests.ConnectionError):
            requests.get(address, timeout=60)
    assert re.search(r"✓ (\d+) of \1 requests answered as expected", page)
    assert re.search(r"^\d\d:\d\d:\d\d refused: inactive +Billing", page, re.MULTILINE)
    assert re.search(r"^\d\d:\d\d:\d\d created +Anna-Laptop \w+ +by user: demo-anna", page, re.MULTILINE)
    assert re.search(r"^\d\d:\d\d:\d\d refused: owner +Anna-Laptop", page, re.MULTILINE)
    assert re.search(r"^\d\d:\d\d:\d\d used +Partner \w+ +POST introspection:TTS-Backend", page, re.MULTILINE)
    row = r"^\d\d:\d\d:\d\d refused: rate +Robot \w+ +GET gateway:orders\.example/orders/7/ +429"
    assert bool(re.search(row, page, re.MULTILINE)) is HAS_NGINX
    assert "harmless" not in page  # which a client said of its request
    assert max(map(len, page.splitlines())) <= 100
    assert not SECRETS.search(page)
    assert "\x1b" not in page
    # So it may be repeated.
    assert left_in(database) == {"keys_apikey WHERE is_active": 0, "tracking_link": 2, "tracking_click": 0,
                                 "tracking_record": 0, "jobs_job": 0, "auth_user": 4}  # fmt: skip


def test_passes_without_nginx_and_says_what_is_not_played(tmp_path: Path) -> None:
    with start(tmp_path / "db.sqlite3", program=WITHOUT_NGINX, PYTHONPATH=str(BASE_DIR)) as demo:
        page, errors = demo.communicate(timeout=300)
    assert (demo.returncode, errors) == (0, "")
    assert "A service that is not Django, behind nginx, is not played" in page
    assert "gateway:" not in page
    assert re.search(r"✓ (\d+) of \1 requests answered as expected", page)


def test_a_killed_demo_leaves_no_nginx(tmp_path: Path) -> None:
    if not HAS_NGINX:
        pytest.skip("There is no nginx.")
    script = (
        "import django; django.setup()\n"
        "from pathlib import Path\n"
        "from example_project.demo.behind_nginx import BehindNginx\n"
        f"gateway = BehindNginx(Path({str(tmp_path)!r}))\n"
        "gateway.launch({})\n"
        "gateway.start()\n"
        "print(gateway.url, flush=True)\n"
        "gateway.orders.wait()\n"
    )
    environment = os.environ | PLAIN | {"TMPDIR": str(tmp_path), "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3"}
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=BASE_DIR, env=environment, stdout=subprocess.PIPE, text=True
    ) as demo:
        try:
            assert demo.stdout is not None
            url = f"{demo.stdout.readline().strip()}/orders/7/"
            assert requests.get(url, timeout=60).status_code == 401
        finally:
            demo.kill()

    def is_gone() -> bool:
        with suppress(requests.RequestException):
            requests.get(url, timeout=60)
            return False
        return True

    assert eventually(is_gone)


def left_in(database: Path) -> dict[str, int]:
    """Count the rows that a play might leave, by table."""
    tables = ["keys_apikey WHERE is_active", "tracking_link", "tracking_click", "tracking_record", "jobs_job",
              "auth_user"]  # fmt: skip
    with closing(sqlite3.connect(database)) as connection:
        return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}


def log_in_to_admin(address: str, username: str, password: str) -> bool:
    with requests.Session() as browser:
        browser.get(f"{address}login/", timeout=60)
        form = {"username": username, "password": password, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        return browser.post(f"{address}login/?next=/admin/keys/apikey/", data=form, timeout=60).url.endswith("/apikey/")


def test_says_what_is_wrong_with_the_database(tmp_path: Path) -> None:
    with start(tmp_path / "db.sqlite3", DATABASE_URL=f"sqlite:///{tmp_path}/no/such/folder") as demo:
        page, errors = demo.communicate(timeout=300)
    assert (demo.returncode, page) == (1, "")
    assert errors.startswith("CommandError: The database cannot be used")


@pytest.fixture
def cast(transactional_db: None) -> Cast:
    with actor.acting_as(ACTOR):
        return Cast(fill_in())


@pytest.fixture
def stage(cast: Cast, live_server: LiveServer, tmp_path: Path, settings: Settings) -> Iterator[Stage]:
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    auth = Service(AUTH_SERVICE, tmp_path / "log")
    auth.port = live_server.thread.port
    auth.log.write_text("what happened\n")
    stage = Stage(cast, {AUTH_SERVICE: auth}, Page(StringIO(), no_style()))
    yield stage
    stage.close()


WHOAMI = "GET /api/v1/keys/whoami/"


def scene(calls: Iterable[Call]) -> Scene:
    for call in calls:  # noqa: UP028 # the answer is sent in, which another iterator would not take
        yield call


def play(stage: Stage, *calls: Call) -> str:
    stage.play(scene(calls))
    out = stage.page.out
    assert isinstance(out, StringIO)
    return out.getvalue()


def test_expected_answers_pass(stage: Stage, cast: Cast) -> None:
    page = play(
        stage,
        Call(with_key(cast.tts_key), WHOAMI, 200, {"scopes": ["users:read", "employees:read"]}, logged="used"),
        Call(NOBODY, WHOAMI, 401, headers={"WWW-Authenticate": "Api-Key"}),
    )
    stage.conclude(1.0)
    assert [line[0] for line in page.splitlines()] == ["✓", "✓"]
    assert f"TTS-Backend {cast.tts_key.prefix}…" in page
    assert str(cast.tts_key.key) not in page


@pytest.mark.parametrize(
    ("wrong", "objection"),
    [
        ({"status": 200}, "expected 200, got 401"),
        ({"says": "No."}, 'expected {"detail": "No."}, got {"detail":"Invalid API key."}'),
        ({"says": {"name": "TTS-Backend"}}, 'expected {"name": "TTS-Backend"}, got {"detail":"Invalid API key."}'),
        ({"mentions": "scope"}, 'expected a mention of scope, got {"detail":"Invalid API key."}'),
        ({"headers": {"Retry-After": ""}}, "expected a header Retry-After, got none"),
        ({"headers": {"WWW-Authenticate": "Bearer"}}, 'expected WWW-Authenticate: Bearer, got Api-Key realm="api"'),
    ],
)
def test_fails_on_another_answer(stage: Stage, wrong: dict[str, Any], objection: str) -> None:
    stranger = Caller("stranger", {"X-API-Key": "0" * 40})
    right: dict[str, Any] = {"status": 401, "logged": "unknown"}
    page = play(stage, Call(stranger, WHOAMI, **right | wrong))
    assert page.splitlines()[0].startswith("✗ stranger")
    assert page.splitlines()[1:] == [f"    {objection}"]
    with pytest.raises(CommandError, match=r"(?s)Not everything was as expected.*what happened"):
        stage.conclude(1.0)


def test_fails_on_another_audit_log(stage: Stage, cast: Cast) -> None:
    play(stage, Call(with_key(cast.tts_key), WHOAMI, 200, logged="scope"))
    stage.patience = 0.0
    with pytest.raises(CommandError):
        stage.conclude(1.0)
    page = play(stage)
    assert "✗ missing: 1 scope" in page
    assert "✗ not expected: 1 used" in page


def test_fails_when_a_service_is_gone(stage: Stage, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        service = stage.services[AUTH_SERVICE]
        assert isinstance(service, Service)
        service.port = free.getsockname()[1]
        with pytest.raises(CommandError, match=r"(?s)whoami/: no answer.*what happened"):
            play(stage, Call(NOBODY, WHOAMI, 401))


def test_fails_when_a_service_does_not_start(tmp_path: Path) -> None:
    service = Service(TTS_BACKEND, tmp_path / "log")
    with pytest.raises(CommandError, match=r"(?s)did not start.*No module named 'nowhere'"):
        service.start({"DJANGO_SETTINGS_MODULE": "nowhere"})
    service.stop()


def test_services_end_with_a_killed_demo(tmp_path: Path) -> None:
    script = (
        "import django; django.setup()\n"
        "from pathlib import Path\n"
        "from example_project.demo.processes import Service\n"
        f"service = Service('TTS backend', Path({str(tmp_path / 'log')!r}))\n"
        "service.start({'DJANGO_SETTINGS_MODULE': 'example_project.downstream.settings'})\n"
        "print(service.port, flush=True)\n"
        "service.wait()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=BASE_DIR, env=os.environ | PLAIN, stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        with socket.create_connection(("127.0.0.1", int(demo.stdout.readline())), timeout=60) as connection:
            demo.kill()
            with suppress(ConnectionResetError):  # another way to be told
                assert connection.recv(1) == b""


def test_page_fits_what_it_is_written_to() -> None:
    out = TextIOWrapper(BytesIO(), encoding="ascii")
    Page(out, color_style(force_color=True)).verdict(True, "“done” …")
    assert out.buffer.getvalue() == b"\x1b[32;1m+ ?done? ~\x1b[0m\n"


@pytest.mark.django_db
@pytest.mark.parametrize(("no_color", "success"), [("", "\x1b[32;1mok\x1b[0m"), ("1", "ok")])
def test_no_color(monkeypatch: pytest.MonkeyPatch, no_color: str, success: str) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.delenv("DJANGO_COLORS", raising=False)
    command = Command(stdout=StringIO(), force_color=True)
    call_command(command, "--seed")
    assert command.style.SUCCESS("ok") == success
