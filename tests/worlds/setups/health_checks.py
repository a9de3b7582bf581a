"""Connections live for ten minutes and are checked before each request."""

from collections.abc import Callable, Iterator

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import DATABASES as DATABASES

VENDORS = {"postgresql", "mysql"}
DATABASES["default"] |= {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    def the_first_request_on_each_connection_that_was_closed() -> None:
        from tests.worlds.connections import close_all_from_the_server, in_threads, request

        tokens = _tokens()
        in_threads(
            3,
            lambda number: request(tokens[number]),
            close_all_from_the_server,
            lambda number: request(tokens[number]),
            close_all_from_the_server,
            lambda number: request("0" * 40, 401),
        )

    def an_outcome_that_waits() -> None:
        from datetime import timedelta

        from django.test.utils import override_settings

        from keys.models import AuditEvent
        from tests.worlds.connections import close_all_from_the_server, in_threads, request

        tokens = _tokens()
        with override_settings(KEYS={"OUTCOME_DELAY": timedelta(hours=1)}):
            in_threads(
                3,
                lambda number: request(tokens[number]),
                close_all_from_the_server,
                lambda number: request(tokens[number]),
            )
        assert not AuditEvent.objects.died().exists()

    yield "the_first_request_on_each_connection_that_was_closed", the_first_request_on_each_connection_that_was_closed
    yield "an_outcome_that_waits", an_outcome_that_waits


def _tokens() -> list[str]:
    from keys.models import APIKey

    return [str(APIKey.objects.create(name=f"of thread {n}", scopes=["orders:read"]).key) for n in range(3)]
