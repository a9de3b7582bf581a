"""A batch endpoint calls guarded views with other keys than its own."""

from collections.abc import Callable, Iterator

from tests.worlds.settings import *  # noqa: F403

ROOT_URLCONF = "tests.worlds.inner_urls"
EXPECTED_CHECKS = {"keys.W002"}


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    yield "each key by itself", each_key_by_itself


def each_key_by_itself() -> None:
    """Each key in the batch is decided by itself, and has a row of its own."""
    import json

    from django.test import Client

    from keys.models import APIKey
    from tests.worlds.requests import rows

    first, second = (APIKey.objects.create(name="good", scopes=["orders:read"]) for _ in range(2))
    keys = [first.key, "0" * 40, second.key, first.key]
    before = rows()
    answer = Client(headers={"X-API-Key": str(first.key)}).post("/batch/", json.dumps(keys), "application/json")
    assert answer.json() == [200, 401, 200, 200], answer.content
    # A refusal within a transaction is written after it.
    expected = [("refused", "unknown", 401), ("used", "", 200), ("used", "", 200)]
    assert sorted(rows()[len(before) :]) == expected, rows()[len(before) :]
