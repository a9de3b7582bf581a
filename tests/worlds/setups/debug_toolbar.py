"""django-debug-toolbar records the queries of each request, with a cursor of its own."""

from collections.abc import Callable, Iterator
from typing import Any

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
    yield "the manual's recipe keeps the key out of the store", _store_has_no_key


def _store_has_no_key() -> None:
    from debug_toolbar.settings import PANELS_DEFAULTS
    from debug_toolbar.store import get_store
    from debug_toolbar.toolbar import DebugToolbar
    from django.test import Client
    from django.test.utils import override_settings

    from keys.models import APIKey

    token = str(APIKey.objects.create(name="Looked at", scopes=["orders:read"]).key)
    headers = "debug_toolbar.panels.headers.HeadersPanel"
    assert headers in PANELS_DEFAULTS
    for panels, is_kept in ((PANELS_DEFAULTS, True), ([name for name in PANELS_DEFAULTS if name != headers], False)):
        DebugToolbar._panel_classes = None
        with override_settings(DEBUG=True, DEBUG_TOOLBAR_PANELS=panels):
            store: Any = get_store()
            store.clear()
            assert Client(headers={"X-API-Key": token}).get("/orders/").status_code == 200
            kept = [str(dict(store.panels(request_id))) for request_id in store.request_ids()]
        assert kept
        assert any(token in text for text in kept) is is_kept, panels
