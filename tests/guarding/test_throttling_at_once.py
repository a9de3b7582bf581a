"""Requests at once, in two processes with many threads, get no more than the rate."""

import json
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.core.management import call_command
from django.db import connection
from pytest_django import Settings

from keys.models import APIKey
from tests.settings import RUN
from tests.support.processes import at_once
from tests.support.redis_servers import shared_redis

pytestmark = pytest.mark.django_db(transaction=True)

BACKENDS = "django.core.cache.backends"

# A process with ten threads; each asks a few times.
ASK = """
import threading
from django.db import connection
from django.test import Client, override_settings
start, answers = threading.Barrier({threads}), []

def ask():
    client = Client(headers={{"X-API-Key": "{key}"}})
    start.wait()
    try:
        for _ in range({times}):
            answers.append(client.get("/throttled/").status_code)
    finally:
        connection.close()

with override_settings(CACHES={caches!r}, ROOT_URLCONF="tests.urls", ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None):
    threads = [threading.Thread(target=ask) for _ in range({threads})]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print(answers)
"""


def answers(processes: int, **values: Any) -> list[int]:
    """Let processes ask at once, and return the statuses of all answers."""
    printed = at_once(*[ASK.format(threads=10, times=3, **values)] * processes)
    return [status for each in printed for status in json.loads(each)]


@pytest.fixture(params=["redis", "database"])
def shared_cache(request: pytest.FixtureRequest, settings: Settings) -> Any:
    """The options of a cache that processes share."""
    name = f"{RUN}_{uuid4().hex[:8]}"
    if request.param == "redis":
        try:
            redis.Redis.from_url(shared_redis()).ping()
        except redis.ConnectionError:
            pytest.skip("No Redis is running.")
        options = {"BACKEND": f"{BACKENDS}.redis.RedisCache", "LOCATION": shared_redis(), "KEY_PREFIX": name}
        yield {"default": options}
        return
    options = {"BACKEND": f"{BACKENDS}.db.DatabaseCache", "LOCATION": name}
    settings.CACHES = {"default": options}
    call_command("createcachetable", verbosity=0)
    yield {"default": options}
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {connection.ops.quote_name(name)}")


@pytest.mark.matrix
@pytest.mark.parametrize("rate", [1, 5])
def test_sixty_requests_at_once_in_two_processes(shared_cache: dict[str, Any], rate: int) -> None:
    key = APIKey.objects.create(name="TTS", rate=f"{rate}/hour")
    statuses = answers(2, key=key.key, caches=shared_cache)
    assert sorted(statuses) == [200] * rate + [429] * (60 - rate)


@pytest.mark.matrix
def test_threads_of_one_process_in_its_memory() -> None:
    key = APIKey.objects.create(name="TTS", rate="5/hour")
    memory = {"default": {"BACKEND": f"{BACKENDS}.locmem.LocMemCache", "LOCATION": uuid4().hex}}
    assert sorted(answers(1, key=key.key, caches=memory)) == [200] * 5 + [429] * 25
