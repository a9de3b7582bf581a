"""What a guarded request costs in a project's tests is the same each time."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from asgiref.sync import sync_to_async
from django.conf import settings as project
from django.db import connection
from django.test import TestCase, TransactionTestCase, override_settings
from django.test.utils import CaptureQueriesContext

from keys.audit.floods import floods
from keys.models import APIKey, AuditEvent
from keys.testing import APIKeyClient, unrecorded

UNKNOWN = "0" * 40
STATEMENTS = 2 if connection.vendor == "postgresql" else 3  # find and record, and the outcome
AT_ONCE = {**project.KEYS, "OUTCOME_DELAY": timedelta(0)}


def queries(client: Any, path: str, **headers: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        client.get(path, headers=headers)
    return len(captured)


PATHS = ("/guarded/", "/plain/", "/plain-class/", "/scoped/")


@override_settings(KEYS=AT_ONCE)
class TestAtOnce(TransactionTestCase):
    def test_good_keys(self) -> None:
        caller = APIKeyClient(scopes=["users:read"])
        assert {queries(caller, path) for path in PATHS * 5} == {STATEMENTS}
        assert not AuditEvent._base_manager.filter(event="used", status=None).exists()

    def test_good_keys_without_the_middleware(self) -> None:
        caller = APIKeyClient(scopes=["users:read"])
        middleware = [path for path in project.MIDDLEWARE if not path.startswith("keys.")]
        with override_settings(MIDDLEWARE=middleware):
            # No outcome is written.
            assert {queries(caller, path) for path in PATHS * 5} == {STATEMENTS - 1}

    def test_known_keys_that_are_refused(self) -> None:
        caller = APIKeyClient(is_active=False)
        assert {queries(caller, path) for path in PATHS * 5} == {2}

    @time_machine.travel(datetime(2026, 3, 1, 12, 0, tzinfo=UTC))
    def test_strangers(self) -> None:
        floods.forget()
        assert [queries(self.client, "/guarded/", **{"X-API-Key": UNKNOWN}) for _ in range(12)] == [
            *[2] * 5, 3, *[2] * 6
        ]  # fmt: skip

    def test_no_timer_is_left(self) -> None:
        before = threading.active_count()
        caller = APIKeyClient()
        for _ in range(10):
            caller.get("/guarded/")
            self.client.get("/guarded/", headers={"X-API-Key": UNKNOWN})
        assert threading.active_count() == before


@override_settings(KEYS=AT_ONCE)
class TestAtOnceInATransaction(TestCase):
    def test_good_keys(self) -> None:
        caller = APIKeyClient(scopes=["users:read"])
        # Each write in a savepoint of two statements.
        assert {queries(caller, path) for path in PATHS * 5} == {STATEMENTS + 2 * 2}


class TestUnrecorded(TransactionTestCase):
    @pytest.fixture(autouse=True)
    def nothing_is_written(self) -> Iterator[None]:
        yield
        assert not AuditEvent.objects.exclude(method="").exists()

    @unrecorded()
    def test_each_request_is_one_look_up(self) -> None:
        good, refused = APIKeyClient(scopes=["users:read"]), APIKeyClient(is_active=False)
        for path in PATHS * 5:
            assert queries(good, path) == 1
            assert queries(refused, path) == 1
            assert queries(self.client, path, **{"X-API-Key": UNKNOWN}) == 1
            assert queries(self.client, path) == 0

    @unrecorded()
    def test_keys_are_checked_as_ever(self) -> None:
        key = APIKey.objects.create(name="A", scopes=[])
        assert APIKeyClient().get("/guarded/").status_code == 200
        assert self.client.get("/guarded/", headers={"X-API-Key": UNKNOWN}).status_code == 401
        assert self.client.get("/scoped/", headers={"X-API-Key": str(key.key)}).status_code == 403
        assert AuditEvent.objects.filter(event="created").count() == 2


class TestUnrecordedInAsyncTests(TransactionTestCase):
    ran = False

    @unrecorded()
    async def test_an_async_test(self) -> None:
        key = await sync_to_async(APIKey.objects.create)(name="A")
        answer = await self.async_client.get("/guarded/", headers={"X-API-Key": str(key.key)})
        assert answer.status_code == 200
        assert not await AuditEvent.objects.exclude(method="").aexists()
        type(self).ran = True

    @classmethod
    def tearDownClass(cls) -> None:
        super().tearDownClass()
        assert cls.ran


@unrecorded()
class TestAClassUnrecorded(TransactionTestCase):
    def test_of_a_class(self) -> None:
        assert APIKeyClient().get("/guarded/").status_code == 200
        assert not AuditEvent.objects.exclude(method="").exists()


def test_a_class_stays_a_class() -> None:
    assert isinstance(TestAClassUnrecorded, type)


class TestAfterUnrecorded(TransactionTestCase):
    def test_rows_are_written_again(self) -> None:
        with pytest.raises(ZeroDivisionError), unrecorded():
            raise ZeroDivisionError
        for _ in range(7):
            self.client.get("/guarded/", headers={"X-API-Key": UNKNOWN})
        assert AuditEvent.objects.filter(event="refused").count() == 6


class TestUnrecordedInATransaction(TestCase):
    client_of_all: APIKeyClient
    key: APIKey
    token: str

    @classmethod
    def setUpTestData(cls) -> None:
        cls.client_of_all = APIKeyClient(scopes=["users:read"])
        cls.key = APIKey.objects.create(name="of all")
        cls.token = str(cls.key.key)

    def test_one_look_up_in_a_savepoint(self) -> None:
        with unrecorded():
            assert {queries(self.client_of_all, path) for path in PATHS * 5} == {3}

    def test_the_client_keeps_its_secret(self) -> None:
        assert self.client_of_all.get("/scoped/").status_code == 200
        assert self.client.get("/guarded/", headers={"X-API-Key": self.client_of_all.token}).status_code == 200
        assert self.client.get("/guarded/", headers={"X-API-Key": self.token}).status_code == 200
        # As in production, the copy of a key does not.
        assert self.client.get("/guarded/", headers={"X-API-Key": str(self.key.key)}).status_code == 401

    def test_its_key_can_be_changed_in_one_test(self) -> None:
        self.client_of_all.key.deactivate()
        assert self.client_of_all.get("/scoped/").status_code == 401
