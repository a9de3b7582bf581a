"""Fixtures that a module asks for by `pytest.mark.usefixtures`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.old_system import drop_tables, migrate


@pytest.fixture(scope="module")
def tables_put_back(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Each test of the module makes its old table; the tests of other modules find the tables of today."""
    yield
    with django_db_blocker.unblock():
        drop_tables()
        migrate()


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No next key in the environment, which goes before the .env of this checkout, and none in a .env above."""
    monkeypatch.setenv("AUTH_API_KEY_NEXT", "")
    monkeypatch.chdir(tmp_path)
