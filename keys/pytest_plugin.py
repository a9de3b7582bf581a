"""The pytest fixture `api_key_client`, available wherever this package is installed.

pytest loads it in every project of the environment. The wheel holds this file a second time, as
`django_service_keys_pytest`, for pytest to load: `keys` may be the name of another module there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from keys.testing import APIKeyClient


@pytest.fixture
def api_key_client(db: None) -> type[APIKeyClient]:
    """Return `APIKeyClient`, with the database ready: `api_key_client(scopes=["users:read"])`. Needs pytest-django.

    Raises UsageError if `keys` is a module of the project's own.
    """
    # Imported here: pytest loads this file before Django is set up, also in projects without Django.
    try:
        from keys.testing import APIKeyClient
    except ImportError as error:
        if error.name not in {"keys", "keys.testing"}:
            raise
        raise pytest.UsageError(
            "The fixture api_key_client needs the app `keys` of django-service-keys, and this project has a module of"
            f" its own by that name{_where()}, which hides it: rename that module, or do without the fixture."
        ) from None
    return APIKeyClient


def _where() -> str:
    import keys

    places = [keys.__file__] if getattr(keys, "__file__", None) else [*getattr(keys, "__path__", [])]
    return f", {places[0]}" if places else ""
