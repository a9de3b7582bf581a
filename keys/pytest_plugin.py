"""What pytest finds by itself where this package is installed: the fixture `api_key_client`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .testing import APIKeyClient


@pytest.fixture
def api_key_client(db: None) -> type[APIKeyClient]:
    """Return `APIKeyClient`, with the database ready: `client = api_key_client(scopes=["users:read"])`.

    Needs pytest-django.
    """
    # pytest loads this file before Django is set up, and in projects that do not use Django at all.
    from .testing import APIKeyClient

    return APIKeyClient
