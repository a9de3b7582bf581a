"""For the tests of projects whose views ask for a key: a client that sends one.

With pytest-django there is the fixture `api_key_client` as well, without an import: see `pytest_plugin`.
"""

from collections.abc import Sequence
from typing import Any

from rest_framework.test import APIClient

from .models import APIKey


class APIKeyClient(APIClient):
    """Django REST framework's test client, whose requests carry a key made for it.

    `scopes` and any other field of `APIKey` (`is_active`, `expires_at`, `allowed_ips` ...) make the key, as
    `APIKey.objects.create()` would: without `scopes` it gets `KEYS["DEFAULT_SCOPES"]`. `header` is where it is
    sent. `.key` is the key, to be deactivated, rotated or compared; the client goes on sending what it sent.

    Needs the database, so make it in `setUp()` or in a test. Raises ValidationError as the model does, for a
    scope that is not registered for instance.
    """

    def __init__(
        self, scopes: Sequence[str] | None = None, *, name: str = "Test", header: str = "X-API-Key", **key_fields: Any
    ) -> None:
        super().__init__()
        if scopes is not None:
            key_fields["scopes"] = list(scopes)
        self.key = APIKey.objects.create(name=name, **key_fields)
        self.credentials(**{f"HTTP_{header.upper().replace('-', '_')}": str(self.key.key)})
