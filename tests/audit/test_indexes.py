"""Which index finds the latest event of a key, however rarely the key is used."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from keys.audit.reports import retirement, usage
from keys.models import APIKey
from tests.support.keys import make_key
from tests.support.log import record
from tests.support.tables import execute, needs_partitions

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor not in {"sqlite", "postgresql"}, reason="Reads these databases' plans."),
]

QUESTIONS: list[Callable[[APIKey], Any]] = [
    lambda key: key.last_used_at,
    lambda key: list(APIKey.objects.with_last_used()),
    retirement,
]


def plan(statement: str) -> str:
    if connection.vendor == "sqlite":
        return str(execute("EXPLAIN QUERY PLAN " + statement))
    # On a table as small as this the planner would read all of it.
    for way in ("seqscan", "bitmapscan", "sort"):
        execute(f"SET LOCAL enable_{way} = off")
    return str(execute("EXPLAIN " + statement))


def asked(ask: Callable[[APIKey], Any]) -> str:
    """Return the plan of the query that finds the last use."""
    key = make_key()
    record(key, at=timezone.now())
    with CaptureQueriesContext(connection) as queries:
        ask(key)
    asked_for = ('FROM "keys_auditevent"', '"api_key_id" >=')
    (found,) = {query["sql"] for query in queries if all(part in (query["sql"] or "") for part in asked_for)}
    return plan(str(found).replace("%", "%%"))


@pytest.mark.parametrize("ask", QUESTIONS, ids=["one", "all", "retirement"])
def test_the_last_use_is_found_by_the_index_on_the_key(ask: Callable[[APIKey], Any]) -> None:
    read = asked(ask)
    indexes = re.findall(r"(?:USING INDEX|USING COVERING INDEX|using) (\w*event\w*)", read)
    assert indexes
    on_the_key = r"keys_event_key_at|keys_auditevent_\w+_api_key_id_at_idx"
    assert all(re.fullmatch(on_the_key, name) for name in indexes), read


@needs_partitions
@pytest.mark.parametrize("ask", QUESTIONS, ids=["one", "all", "retirement"])
def test_no_other_index_will_do(ask: Callable[[APIKey], Any]) -> None:
    """By one on the time PostgreSQL might read all events of a month to find that none is of the key."""
    execute("DROP INDEX keys_event_key_at")
    assert "Sort  (" in asked(ask)


def test_what_an_owners_keys_did_is_found_by_the_index_on_the_owner(settings: Settings) -> None:
    settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User"]}
    record(make_key(), at=timezone.now(), owner="auth.user:7")
    with CaptureQueriesContext(connection) as queries:
        usage(since=timezone.now() - timedelta(days=30), owner="auth.user:7")
    (found,) = (query["sql"] for query in queries if '"owner" =' in query["sql"])
    indexes = re.findall(r"(?:USING INDEX|using) (\w*event\w*)", read := plan(str(found).replace("%", "%%")))
    assert indexes
    assert all(re.fullmatch(r"keys_event_owner|keys_auditevent_\w+_owner_at_idx", name) for name in indexes), read
