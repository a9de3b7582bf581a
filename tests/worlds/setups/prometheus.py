"""The backend of django-prometheus, which counts queries."""

from collections.abc import Callable, Iterator

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import DATABASES as DATABASES

PACKAGES = ("django_prometheus",)

_engine = DATABASES["default"]["ENGINE"].rpartition(".")[2]
DATABASES["default"]["ENGINE"] = f"django_prometheus.db.backends.{_engine}"


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    def it_sees_each_query_of_a_guarded_request() -> None:
        from django.db import connection
        from django.test import Client
        from django_prometheus.db import execute_total

        from keys.models import APIKey

        counted = execute_total.labels("default", connection.vendor)._value
        key = APIKey.objects.create(name="counted", scopes=["orders:read"])
        for token, status in [(key.key, 200), ("0" * 40, 401)] * 3:
            before = counted.get()
            assert Client().get("/orders/", headers={"X-API-Key": str(token)}).status_code == status
            assert counted.get() > before, status

    yield "it_sees_each_query_of_a_guarded_request", it_sees_each_query_of_a_guarded_request
