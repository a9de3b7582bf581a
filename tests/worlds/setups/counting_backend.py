"""A backend of the project's own, whose `cursor()` hands out cursors that count queries."""

import os
from collections.abc import Callable, Iterator

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import DATABASES as DATABASES

os.environ["KEYS_WORLD_ENGINE"] = DATABASES["default"]["ENGINE"]
DATABASES["default"]["ENGINE"] = "tests.worlds.backends.counting"


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    def it_sees_each_query_of_a_guarded_request() -> None:
        from django.test import Client

        from keys.models import APIKey
        from tests.worlds.backends.counting.base import queries

        client = Client(headers={"X-API-Key": APIKey.objects.create(name="counted", scopes=["orders:read"]).key})
        for _ in range(3):
            queries.clear()
            assert client.get("/orders/").status_code == 200
            assert sum("INSERT INTO" in query for query in queries) == 1, queries
            # A cursor may choose where it writes, so that no other thread can write its outcome.
            assert sum("UPDATE" in query for query in queries) == 1, queries
        queries.clear()
        assert Client().get("/orders/", headers={"X-API-Key": "0" * 40}).status_code == 401
        assert any("INSERT INTO" in query for query in queries), queries

    yield "it_sees_each_query_of_a_guarded_request", it_sees_each_query_of_a_guarded_request
