"""Rows of the log for tests that write them by themselves."""

from typing import Any

from django.utils import timezone


def row(**changes: Any) -> dict[str, Any]:
    """A row of the log that fills every column."""
    return {
        "at": timezone.now(), "event": "used", "reason": "", "api_key_id": None, "key_name": "TTS",
        "key_prefix": "01234567",
        "method": "GET", "path": "/ünicode/😀/%s", "endpoint": "guarded", "status": None, "duration_ms": None,
        "address": "2001:db8::7", "user_agent": "curl 'quoted' \"twice\" \\", "request_id": "r-1",
        "actor": "", "count": 1,
        "detail": "", **changes,
    }  # fmt: skip
