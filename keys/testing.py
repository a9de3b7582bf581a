"""A test client that sends a key, for projects whose views need one. `pytest_plugin` has it as a fixture."""

from collections.abc import Sequence
from typing import Any

from rest_framework.test import APIClient

from .models import APIKey


class APIKeyClient(APIClient):
    """Django REST framework's test client, which sends a key created for it.

    `scopes` and any other field of `APIKey` (`is_active`, `expires_at`, `allowed_ips` ...) are passed to
    `APIKey.objects.create()`: without `scopes` the key gets `KEYS["DEFAULT_SCOPES"]`. `header` is where it is sent.
    `.key` is the key, to deactivate, rotate or compare; the client goes on sending it.

    Needs the database, so create it in `setUp()` or in a test. Raises ValidationError as the model does, e.g. for a
    scope that is not registered.
    """

    def __init__(
        self, scopes: Sequence[str] | None = None, *, name: str = "Test", header: str = "X-API-Key", **key_fields: Any
    ) -> None:
        super().__init__()
        if scopes is not None:
            key_fields["scopes"] = list(scopes)
        self.key = APIKey.objects.create(name=name, **key_fields)
        self.credentials(**{f"HTTP_{header.upper().replace('-', '_')}": str(self.key.key)})
