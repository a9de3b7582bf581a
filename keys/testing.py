"""What the tests of projects need: a client that sends a key, and requests that write no rows.

`pytest_plugin` has the client as a fixture.
"""

from base64 import b64encode
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from django.test.utils import TestContextDecorator
from rest_framework.test import APIClient

from .audit import sinks
from .audit.outcomes import CountedRow, RowHandle
from .audit.places import Place
from .credentials import BASIC
from .models import APIKey
from .models.audit_event import Row


class APIKeyClient(APIClient):
    """Django REST framework's test client, which sends a key created for it.

    `scopes` and any other field of `APIKey` (`is_active`, `expires_at`, `allowed_ips` ...) are passed to
    `APIKey.objects.create()`: without `scopes` the key gets `KEYS["DEFAULT_SCOPES"]`. `header` is where it is sent,
    unless it is in `Authorization` after a `keyword`, such as `Api-Key`; after `Basic` it is the password.
    `.key` is the key, to deactivate, rotate or compare; the client goes on sending it. `.token` is its secret, which
    copies of the client keep, also those that Django makes of what `setUpTestData()` sets; copies of the key do not.

    Needs the database, so create it in `setUpTestData()`, `setUp()` or a test. Raises ValidationError as the model
    does, e.g. for a scope that is not registered.
    """

    def __init__(
        self, scopes: Sequence[str] | None = None, *, name: str = "Test", header: str = "X-API-Key",
        keyword: str = "", **key_fields: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        if scopes is not None:
            key_fields["scopes"] = list(scopes)
        self.key = APIKey.objects.create(name=name, **key_fields)
        self.token = str(self.key.key)
        value = b64encode(f":{self.token}".encode()).decode() if keyword.lower() == BASIC else self.token
        if keyword:
            header, value = "Authorization", f"{keyword} {value}"
        self.credentials(**{f"HTTP_{header.upper().replace('-', '_')}": value})


class _Unrecorded(TestContextDecorator):
    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()

    def enable(self) -> None:
        self._stack.enter_context(sinks.written_to(_Nowhere()))

    def disable(self) -> None:
        self._stack.close()


def unrecorded() -> TestContextDecorator:
    """Write no uses and refusals into the audit log, in all threads of this process.

    A context manager, and a decorator of tests, sync or async, and of classes of unittest's. Keys are checked as ever.
    What a guarded request costs is then exactly one query, the look-up of its key; inside a transaction, as in a
    `TestCase`, there is a savepoint around it. Events of a key's life (created, rotated ...) are still written.
    """
    return _Unrecorded()


class _Nowhere:
    """A sink that drops all rows."""

    shares_key_database = False

    def place(self) -> Place:
        return Place("nowhere")

    def may_be_rolled_back(self) -> bool:
        return False

    def insert(self, row: Row) -> RowHandle:
        return RowHandle(1, row["at"])

    def add_outcome(self, handle: RowHandle, row: Row, may_be_gone: bool) -> None:
        pass

    def count_again(self, counted: CountedRow) -> bool:
        return True

    def count_later(self, counted: CountedRow) -> None:
        pass

    def existing(self, handles: Sequence[RowHandle]) -> set[RowHandle]:
        return {*handles}
