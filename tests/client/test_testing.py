"""The helpers for the tests of other projects, used as those would."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import TestCase
from django.utils import timezone
from pytest_django.fixtures import Settings

from keys.models import APIKey, AuditEvent
from keys.testing import APIKeyClient
from tests.support.processes import ROOT


class TestWithUnittest(TestCase):
    def test_its_requests_carry_a_key_that_holds_the_scopes(self) -> None:
        client = APIKeyClient(scopes=["users:read"])
        assert client.get("/scoped/").json()["name"] == client.key.name
        assert AuditEvent.objects.get(event="used").api_key == client.key

    def test_a_key_with_other_scopes_is_refused(self) -> None:
        assert APIKeyClient(scopes=["employees:read"]).get("/scoped/").status_code == 403
        assert APIKeyClient(scopes=[]).get("/scoped/").status_code == 403

    def test_two_clients_have_two_keys(self) -> None:
        one, other = APIKeyClient(), APIKeyClient(name="Other")
        assert one.get("/guarded/").json()["name"] == "Test"
        assert other.get("/guarded/").json()["name"] == "Other"

    def test_what_is_done_to_the_key_is_seen_by_the_next_request(self) -> None:
        client = APIKeyClient()
        assert client.get("/guarded/").status_code == 200
        client.key.refresh_from_db()
        client.key.deactivate()
        assert client.get("/guarded/").status_code == 401

    def test_it_posts_json_as_the_client_of_the_framework_does(self) -> None:
        response = APIKeyClient().post("/guarded/", {"a": [1]}, format="json")
        assert (response.status_code, response.json()) == (201, {"got": {"a": [1]}})

    def test_it_opens_plain_django_views(self) -> None:
        assert APIKeyClient(scopes=["users:read"]).get("/plain/").status_code == 200

    def test_it_sends_another_header_where_asked_to(self) -> None:
        assert APIKeyClient(header="X-Internal-Api-Key").get("/two-headers/").status_code == 200
        assert APIKeyClient(header="X-Something-Else").get("/two-headers/").status_code == 401


def test_the_fixture_makes_clients(api_key_client: type[APIKeyClient], settings: Settings) -> None:
    settings.KEYS = {"DEFAULT_SCOPES": ["users:read"]}
    assert api_key_client().key.scopes == ["users:read"]
    assert api_key_client(scopes=["users:read"]).get("/scoped/").status_code == 200


@pytest.mark.parametrize(
    "fields",
    [{"is_active": False}, {"expires_at": timezone.now() - timedelta(days=1)}, {"allowed_ips": ["192.0.2.0/24"]}],
)
def test_a_key_may_be_made_that_is_refused(api_key_client: type[APIKeyClient], fields: dict[str, Any]) -> None:
    assert api_key_client(**fields).get("/guarded/").status_code == 401


def test_a_scope_that_nobody_registered_is_a_clear_error(
    api_key_client: type[APIKeyClient], settings: Settings
) -> None:
    settings.KEYS = {"SCOPES": {"users:read": "Read users."}}
    with pytest.raises(ValidationError, match="users:raed"):
        api_key_client(scopes=["users:raed"])
    assert not APIKey.objects.exists()


@pytest.mark.matrix
def test_another_project_has_the_fixture_without_an_import(tmp_path: Path) -> None:
    (tmp_path / "test_orders.py").write_text(
        "def test_orders(api_key_client):\n"
        "    assert api_key_client(scopes=['users:read']).get('/scoped/').status_code == 200\n"
    )
    assert_passes(tmp_path, "--ds=tests.settings", "--no-migrations")


@pytest.mark.matrix
def test_projects_without_django_do_not_notice(tmp_path: Path) -> None:
    (tmp_path / "test_sum.py").write_text("def test_sum():\n    assert 1 + 1 == 2\n")
    assert_passes(tmp_path, "-p", "no:django")


@pytest.mark.matrix
def test_pytest_is_not_needed() -> None:
    program = "import sys; sys.modules['pytest'] = None; import django; django.setup(); import keys.testing"
    environment = {"DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=300)


def assert_passes(folder: Path, *options: str) -> None:
    """Run pytest in a folder of its own, with no more configuration than the options."""
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT}\n")
    database = {"TMPDIR": str(folder), "DATABASE_URL": "", "SECRET_KEY": "s" * 50}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    finished = subprocess.run(command, cwd=folder, env=database, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "1 passed" in finished.stdout
