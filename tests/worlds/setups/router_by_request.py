"""Two databases with keys of their own, between which a router chooses by the request's host."""

from collections.abc import Callable, Iterator

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import DATABASES as DATABASES
from tests.worlds.settings import MIDDLEWARE as MIDDLEWARE
from tests.worlds.settings import NAME, test_database

DATABASES["west"] = test_database(f"{NAME}_west")
DATABASE_ROUTERS = ["tests.worlds.routing.ByRegion"]
MIDDLEWARE = ["tests.worlds.routing.middleware.by_host", *MIDDLEWARE]


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    def each_row_and_its_outcome_are_in_the_request_s_database() -> None:
        from datetime import timedelta

        from django.test import Client
        from django.test.utils import override_settings

        from keys.audit.sinks import backlog
        from keys.models import APIKey, AuditEvent
        from tests.worlds.routing import region

        hosts = {"default": "east.example", "west": "west.example"}
        keys = {}
        for alias in hosts:
            token = region.set(alias)
            AuditEvent.objects.all().delete()
            # Of one number in each.
            keys[alias] = APIKey.objects.create(pk=700, name=alias, scopes=["orders:read"], rate="3/hour")
            region.reset(token)
        with override_settings(KEYS={"OUTCOME_DELAY": timedelta(hours=1)}):
            for _ in range(3):
                for alias, host in hosts.items():
                    for holder, key in keys.items():
                        answer = Client(SERVER_NAME=host).get("/orders/", headers={"X-API-Key": str(key.key)})
                        assert answer.status_code == (200 if alias == holder else 401), (alias, holder)
            backlog.flush()
        for alias in hosts:
            rows = AuditEvent._base_manager.using(alias).exclude(method="").values_list("key_name", "status", "count")
            assert sorted(rows) == [("", 401, 1)] * 3 + [(alias, 200, 1)] * 3, (alias, rows)

    yield "each_row_and_its_outcome", each_row_and_its_outcome_are_in_the_request_s_database
