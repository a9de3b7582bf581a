"""django-debug-toolbar records the queries of each request, with a cursor of its own."""

from collections.abc import Callable, Iterator

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import INSTALLED_APPS as INSTALLED_APPS
from tests.worlds.settings import MIDDLEWARE as MIDDLEWARE

PACKAGES = ("debug_toolbar",)
INSTALLED_APPS = [*INSTALLED_APPS, "debug_toolbar"]
MIDDLEWARE = ["debug_toolbar.middleware.DebugToolbarMiddleware", *MIDDLEWARE]
DEBUG_TOOLBAR_CONFIG = {"IS_RUNNING_TESTS": False, "SHOW_TOOLBAR_CALLBACK": lambda request: True}
ROOT_URLCONF = "tests.worlds.urls_toolbar"


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    def bursts() -> None:
        """What a burst leaves to one batch is written through the cursor of the panel, too."""
        from datetime import timedelta

        from django.test import Client
        from django.test.utils import override_settings

        from keys.models import APIKey, AuditEvent

        key = APIKey.objects.create(name="Burst", scopes=["orders:read"])
        AuditEvent.objects.all().delete()
        callers = {200: Client(headers={"X-API-Key": key.key}), 401: Client(headers={"X-API-Key": "0" * 40})}
        for delay in (timedelta(hours=1), timedelta(milliseconds=5), timedelta(0)):
            with override_settings(DEBUG=True, KEYS={"OUTCOME_DELAY": delay}):
                for _ in range(12):
                    for status, caller in callers.items():
                        assert caller.get("/orders/").status_code == status
                # The next request writes what is pending.
        rows = AuditEvent.objects.values_list("status", "count")
        assert sum(count for status, count in rows if status == 200) == 36, rows
        assert sum(count for status, count in rows if status == 401) == 36, rows

    yield "bursts", bursts
