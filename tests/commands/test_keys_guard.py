"""keys_guard, as people run it."""

import pytest
from django.db import connection

from tests.support.commands import run

pytestmark = pytest.mark.django_db


@pytest.mark.skipif(connection.vendor not in {"postgresql", "sqlite"}, reason="The triggers are for these two.")
class TestGuard:
    def test_is_installed_and_removed(self) -> None:
        assert run("keys_guard", "status").status == 1
        assert run("keys_guard", "install", "--keep", "365d").status == 0
        done = run("keys_guard", "status")
        assert (done.status, done.out) == (0, "The audit log is append-only.\n")
        assert run("keys_guard", "remove").status == 0
        done = run("keys_guard", "status")
        assert done.status == 1
        assert done.out.startswith("Missing: keys_auditevent_no_update, ")

    def test_an_age_that_is_none_is_refused(self) -> None:
        assert run("keys_guard", "install", "--keep", "soon").status == 1
        assert run("keys_guard", "status").status == 1

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="Only PostgreSQL has roles.")
    def test_rights_are_written_as_sql(self) -> None:
        done = run("keys_guard", "grants", "--role", "web")
        assert done.status == 0
        assert all(line.endswith(";") for line in done.out.splitlines())
        assert done.out.splitlines()[-1].endswith(' TO "web";')

    @pytest.mark.skipif(connection.vendor == "postgresql", reason="PostgreSQL has roles.")
    def test_rights_need_roles(self) -> None:
        assert run("keys_guard", "grants", "--role", "web").err == "This is for PostgreSQL, and the log is in SQLite."
