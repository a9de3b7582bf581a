"""The pytest fixture `api_key_client`, available wherever this package is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .testing import APIKeyClient


@pytest.fixture
def api_key_client(db: None) -> type[APIKeyClient]:
    """Return `APIKeyClient`, with the database ready: `api_key_client(scopes=["users:read"])`. Needs pytest-django."""
    # Imported here: pytest loads this file before Django is set up, also in projects without Django.
    from .testing import APIKeyClient

    return APIKeyClient
