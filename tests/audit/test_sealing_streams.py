"""Sealing rows from a Redis stream, which come late, in any order, and get their outcomes later still."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from keys.audit import sealing, triggers, verifying
from keys.audit.entries import encode
from keys.audit.outcomes import new_ticket
from keys.audit.sealing import SealError
from keys.audit.stream import Stream
from keys.models import APIKey, AuditEvent, AuditSeal
from tests.support.log import row
from tests.support.redis_servers import ship
from tests.support.sealed_logs import STEP, write

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("seal_key"),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="The audit log is shipped into PostgreSQL."),
]

HOUR = timedelta(hours=1)
NOW = timezone.now()


def append(stream: Stream, moment: datetime, **changes: Any) -> None:
    """Append an entry as a request of that moment did."""
    filled = row(**{"at": moment, "key_name": "" if changes.get("reason") == "unknown" else "TTS", **changes})
    entry = {"row": encode({"ticket": new_ticket(filled["at"]), **filled})}
    stream.client.xadd(stream.name, entry, id=f"{int(moment.timestamp() * 1000)}-*")


def sealed() -> int:
    list(sealing.seal())
    return sum(AuditSeal.objects.values_list("count", flat=True))


def test_what_was_shipped_is_sealed_in_the_order_in_which_it_came(stream: Stream) -> None:
    write(STEP, at=NOW - 2 * HOUR)
    append(stream, NOW - 9 * HOUR, status=200)
    ship(stream)
    assert sealed() == 2
    append(stream, NOW - 8 * HOUR, status=200)
    append(stream, NOW - HOUR / 2, status=200)
    ship(stream)
    assert sealed() == 3
    findings = verifying.verify()
    assert (findings.problems, findings.unsealed, findings.back_dated.count) == ([], 1, 1)


def test_nothing_is_sealed_whose_outcome_or_count_may_wait(stream: Stream) -> None:
    began = NOW - 5 * HOUR
    use: dict[str, Any] = {"at": began, "ticket": new_ticket(began)}
    flood = {"at": began, "ticket": new_ticket(began), "event": "refused", "reason": "unknown", "status": 401}
    for second, entry in enumerate(({"status": 200, "at": NOW - 9 * HOUR}, use, flood)):
        append(stream, NOW - 5 * HOUR + timedelta(seconds=second), **entry)
    ship(stream)
    for second, entry in enumerate(({**use, "status": 200}, {**flood, "count": 7}), 3):
        append(stream, NOW - 5 * HOUR + timedelta(seconds=second), **entry)
    # Nobody ships for hours.
    assert sealed() == 1
    ship(stream)
    assert sealed() == 3
    findings = verifying.verify()
    assert (findings.problems, findings.concluded_later.count) == ([], 0)


@pytest.mark.parametrize("years", [1, 500, 10**8], ids=str)
def test_nothing_is_sealed_while_ids_are_of_the_future(stream: Stream, years: int) -> None:
    """A clock was ahead for a moment, or somebody chose an id: all that follow are like it."""
    began = NOW - 5 * HOUR
    use: dict[str, Any] = {"at": began, "ticket": new_ticket(began)}
    stream.append(row(**use), 9)
    ship(stream)
    ahead = int((NOW.timestamp() + years * 365 * 86400) * 1000)
    stream.client.xadd(stream.name, {"row": "[]"}, id=f"{ahead}-1")
    assert sealed() == 0
    ship(stream)
    stream.append(row(**use | {"status": 200, "duration_ms": 1}), 9)
    assert sealed() == 0
    ship(stream)
    assert sealed() == 1
    assert verifying.verify().problems == []


def test_without_redis_nothing_is_sealed(stream: Stream, settings: Settings) -> None:
    write(STEP)
    for address in ("unix:///nowhere/redis.sock", "redis://localhost:port", "rediss://?nothing=1"):
        settings.KEYS = {"AUDIT_SINK": address}
        with pytest.raises(SealError, match="stream cannot be asked"):
            list(sealing.seal())


def test_shipping_goes_on_under_the_guards(stream: Stream) -> None:
    key = APIKey.objects.create(name="TTS")
    triggers.install()
    try:
        assert Client(headers={"X-API-Key": key.key}).get("/guarded/").status_code == 200
        entries = [fields for _, fields in stream.client.xrange(stream.name)]
        at = timezone.now() + HOUR
        flood = {"at": at, "ticket": new_ticket(at), "event": "refused", "reason": "unknown", "status": 401}
        append(stream, at, **flood)
        ship(stream)
        # What was shipped comes again, and a count with it.
        for fields in entries:
            stream.client.xadd(stream.name, fields)
        append(stream, at + HOUR, **flood, count=9)
        ship(stream)
        assert stream.client.xlen(stream.set_aside) == 0
        assert AuditEvent.objects.filter(event="used", status=200, key_prefix=key.prefix).count() == 1
        assert AuditEvent.objects.get(event="refused").count == 9
        with pytest.raises(IntegrityError, match="append-only"):
            AuditEvent._base_manager.filter(event="used").update(path="/other")
    finally:
        triggers.remove()
