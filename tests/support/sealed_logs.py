"""A log of a few rows of every kind, from a day ago, with its seals."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from keys.audit import sealing, verifying
from keys.audit.verifying import Findings
from keys.models import AuditEvent, AuditSeal

KEY = "0123456789abcdef0123456789abcdef01234567"
OTHER_KEY = "fedcba9876543210fedcba9876543210fedcba98"

FULL: dict[str, Any] = {
    "event": "used", "reason": "", "api_key_id": 7, "key_name": "TTS", "key_prefix": "01234567", "method": "GET",
    "path": "/ünicode/😀/%s", "endpoint": "guarded", "status": 200, "duration_ms": 12, "address": "2001:db8::7",
    "user_agent": "curl 'quoted' \"twice\" \\", "request_id": "r-1", "actor": "", "owner": "auth.user:7", "count": 1,
    "detail": "",
}  # fmt: skip
REFUSED = {
    **FULL,
    "event": "refused",
    "reason": "unknown",
    "api_key_id": None,
    "key_name": "",
    "owner": "",
    "status": 401,
    "count": 9,
}
OPEN = {**FULL, "status": None, "duration_ms": None}
STEP = {"event": "created", "key_name": "TTS", "actor": "command line: root"}


def a_day_ago() -> datetime:
    return (timezone.now() - timedelta(days=1)).replace(microsecond=0).astimezone(UTC)


def write(*rows: dict[str, Any], at: datetime | None = None, step: timedelta = timedelta(seconds=1)) -> list[int]:
    """Write rows, one a second from a day ago on, and return their ids."""
    begin = at or a_day_ago()
    return [AuditEvent.objects.create(**{"at": begin + number * step, **row}).pk for number, row in enumerate(rows)]


def write_and_seal(rows: int = 12, most_rows: int = 4) -> list[int]:
    """Write so many rows and seal them, `most_rows` in a seal; return their ids."""
    kinds = (STEP, FULL, REFUSED, OPEN)
    ids = write(*(kinds[number % 4] for number in range(rows)))
    list(sealing.seal(most_rows))
    return ids


@contextmanager
def undone() -> Iterator[None]:
    """Forget what is done in the block."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def problems(findings: Findings | None = None) -> list[tuple[str, int, int | None]]:
    """Return kind, seal and row of all that is found; without findings, of all that is found now."""
    found = (findings or verifying.verify()).problems
    return [(problem.kind, problem.seal, problem.row) for problem in found]


def numbers() -> list[int]:
    return list(AuditSeal.objects.values_list("number", flat=True))
