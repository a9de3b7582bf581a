"""Hooks and fixtures of the whole run; modules request the fixtures by `pytest.mark.usefixtures`."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker, Settings

from tests.support import runs
from tests.support.redis_servers import shared_redis
from tests.support.sealed_logs import KEY
from tests.support.tables import drop_tables, migrate


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker, worker_id: str) -> Iterator[None]:
    """Create the tests' databases, and drop those of killed runs."""
    if worker_id in {"master", "gw0"}:
        with django_db_blocker.unblock():
            runs.drop_old_databases(connection)
    yield
    if connection.vendor == "postgresql":
        # A server that a test has killed may not have gone yet, and the database is dropped next.
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Delete this run's keys in a shared Redis, once all workers are done."""
    if not hasattr(session.config, "workerinput"):
        runs.delete_cache_keys(shared_redis())


@pytest.fixture(scope="module")
def tables_put_back(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Restore the current tables after the module, whose tests create the old table."""
    yield
    with django_db_blocker.unblock():
        drop_tables()
        migrate()


@pytest.fixture
def empty_cache(settings: Settings) -> None:
    """The cache holds nothing. It is not cleared: that would take the keys of every other run out of a shared Redis."""
    options = settings.CACHES["default"]
    own = {**options, "KEY_PREFIX": f"{options['KEY_PREFIX']}_{uuid4().hex}"}
    settings.CACHES = {**settings.CACHES, "default": own}


@pytest.fixture
def seal_key(monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment holds the key that signs seals."""
    monkeypatch.setenv("KEYS_SEAL_KEY", KEY)
    return KEY


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Set no next key: not in the environment, nor in a `.env` in or above the working directory."""
    monkeypatch.setenv("AUTH_API_KEY_NEXT", "")
    monkeypatch.chdir(tmp_path)
