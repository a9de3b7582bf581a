"""The log as tests read it, and rows for tests that write them directly."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from keys.audit.outcomes import new_ticket
from keys.models import APIKey, AuditEvent

# When something happened long ago.
AT = datetime(2026, 3, 1, tzinfo=UTC)


def row(**changes: Any) -> dict[str, Any]:
    """Return a row of the log that fills every column. Strangers have no owner."""
    return {
        "at": timezone.now(), "event": "used", "reason": "", "api_key_id": None, "key_name": "TTS",
        "key_prefix": "01234567",
        "method": "GET", "path": "/ünicode/😀/%s", "endpoint": "guarded", "status": None, "duration_ms": None,
        "address": "2001:db8::7", "user_agent": "curl 'quoted' \"twice\" \\", "request_id": "r-1",
        "actor": "", "owner": "" if changes.get("key_name") == "" else "auth.user:7", "count": 1, "detail": "",
        **changes,
    }  # fmt: skip


def rows() -> list[tuple[str, str, str, int | None]]:
    """Return event, reason, key name and status of each request in the log."""
    log = AuditEvent.objects.exclude(method="").order_by("id")
    return list(log.values_list("event", "reason", "key_name", "status"))


def all_events() -> list[tuple[str, str]]:
    """Return event and detail of everything in the log, in its order."""
    return list(AuditEvent.objects.order_by("id").values_list("event", "detail"))


def ticketed(**changes: Any) -> dict[str, Any]:
    """Return a row with a ticket, as in a stream."""
    new = row(**changes)
    return {"ticket": new_ticket(new["at"]), **new}


def events(key: APIKey) -> list[tuple[str, str]]:
    """Return event and detail of everything in the log about one key."""
    return list(AuditEvent.objects.filter(api_key=key.pk).order_by("id").values_list("event", "detail"))


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the app logged as an error."""
    return [record.message for record in caplog.records if record.levelname == "ERROR" and record.name == "api_keys"]


def record(key: APIKey | None = None, **fields: Any) -> AuditEvent:
    """Write an event as a request would have left it."""
    known = {} if key is None else {"api_key": key, "key_name": key.name, "key_prefix": key.prefix}
    event: AuditEvent = AuditEvent.objects.create(**{"event": "used", "status": 200, **known, **fields})
    return event


def body_of(client: Client, address: str, **query: str) -> str:
    """Return what an export sends."""
    return b"".join(client.get(address, query).streaming_content).decode()  # type: ignore[attr-defined]
