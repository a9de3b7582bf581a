"""Times are naive and local, in a zone whose clocks change."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.worlds.settings import *  # noqa: F403

USE_TZ = False
TIME_ZONE = "Europe/Berlin"

# The clocks go back from 3:00 to 2:00 at 1:00 UTC.
NIGHT = datetime(2026, 10, 25, tzinfo=UTC)


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    yield "typed moments", typed_moments
    yield "days", days
    yield "retention", retention
    yield "the hour that comes twice", the_hour_that_comes_twice
    yield "the hour that is skipped", the_hour_that_is_skipped
    yield "append-only", append_only
    yield "USE_TZ switched on", switched_on


def travelled(moment: datetime) -> Any:
    """Return a context in which it is that moment, and whose clock can be moved."""
    import time_machine

    # As a number: a time zone would become the process's.
    return time_machine.travel(moment.timestamp(), tick=False)


def typed_moments() -> None:
    from keys.models import APIKey
    from tests.worlds.commands import run

    for typed, kept in (
        ("2090-07-01", datetime(2090, 7, 1)),  # noqa: DTZ001
        ("2090-07-01T12:00", datetime(2090, 7, 1, 12)),  # noqa: DTZ001
        ("2090-07-01T12:00+00:00", datetime(2090, 7, 1, 14)),  # noqa: DTZ001
    ):
        run("keys_create", f"Until {typed}", "--expires", typed)
        key = APIKey.objects.get(name=f"Until {typed}")
        assert key.expires_at == kept, (typed, key.expires_at)
        listed = next(row for row in json.loads(run("keys_list", "--json")) if row["id"] == key.pk)
        assert listed["expires_at"] == f"{kept.isoformat()}+02:00", listed
    # An aware one is taken, too, on every database.
    key = APIKey.objects.create(name="Aware", expires_at=datetime(2090, 7, 1, tzinfo=UTC))
    assert APIKey.objects.get(pk=key.pk).expires_at == datetime(2090, 7, 1, 2)  # noqa: DTZ001
    assert APIKey.objects.filter(pk=key.pk, expires_at=datetime(2090, 7, 1, tzinfo=UTC)).exists()


def days() -> None:
    """A use half an hour past midnight counts on that day, for the chart and for the filter."""
    from keys.admin import activity
    from keys.models import APIKey
    from tests.worlds.admin_pages import boss

    key = APIKey.objects.create(name="Owl")
    with travelled(datetime(2026, 6, 9, 22, 30, tzinfo=UTC)):
        write(key)
    with travelled(datetime(2026, 6, 10, 10, tzinfo=UTC)):
        (today,) = activity.by_day([key.pk], 1, 100)[key.pk].days
        assert (today.day.isoformat(), today.allowed) == ("2026-06-10", 1), today
        browser = boss()
        for when, number in (("today", 1), ("2026-06-10", 1), ("yesterday", 0), ("7", 1)):
            page = browser.get(f"/admin/keys/auditevent/?when={when}&key={key.pk}").content.decode()
            assert page.count("12 ms") == number, (when, page.count("12 ms"))
            assert "00:30:00" in page or not number


def retention() -> None:
    """What retention has taken may be missing, and what is a little younger may not."""
    from django.utils import timezone

    from keys.audit import retention, sealing, verifying
    from keys.models import APIKey, AuditEvent

    key, now = APIKey.objects.create(name="Old"), timezone.now()
    before = now - timedelta(days=300)
    write(key, at=before - timedelta(seconds=1))
    younger = write(key, at=before + timedelta(minutes=30))
    list(sealing.seal())
    assert retention.prune(before) == 1
    findings = verifying.verify()
    assert not findings.problems, findings.problems
    assert findings.pruned == 1, findings
    AuditEvent.objects.filter(pk=younger).delete()
    (problem,) = verifying.verify().problems
    assert (problem.kind, problem.row) == ("missing", younger), problem
    retention.prune(before + timedelta(hours=1))
    assert not verifying.verify().problems


def the_hour_that_comes_twice() -> None:
    from django.db import connection
    from django.test import Client

    from keys.audit import entries, outcomes, verifying
    from keys.models import APIKey, AuditEvent
    from tests.worlds.commands import run

    keeps_instants = connection.features.supports_timezones
    with travelled(NIGHT) as clock:
        ended = APIKey.objects.create(name="Ended", expires_at=datetime(2026, 10, 25, 2, 15))  # noqa: DTZ001
        caller = Client(headers={"X-API-Key": ended.key})
        statuses = []
        for minutes in (10, 20, 50, 65, 80, 130):
            clock.move_to((NIGHT + timedelta(minutes=minutes)).timestamp())
            statuses.append(caller.get("/plain-orders/").status_code)
        # Refused from its moment on, also when the clocks show an earlier time again.
        assert statuses == [403, 401, 401, 401, 401, 401], statuses
    with travelled(NIGHT + timedelta(minutes=30)) as clock:
        old = APIKey.objects.create(name="Old in the night", scopes=["orders:read"])
        token = run("keys_rotate", str(old.pk), "--grace", "4h").strip()
        assert len(token) == 40
        caller = Client(headers={"X-API-Key": old.key})
        for hours, status in ((0, 200), (3.9, 200), (4.1, 401)):
            clock.move_to((NIGHT + timedelta(minutes=30, hours=hours)).timestamp())
            assert caller.get("/plain-orders/").status_code == status, hours
    with travelled(NIGHT + timedelta(minutes=30)) as clock:
        stranger = Client(headers={"X-API-Key": "f" * 40}, REMOTE_ADDR="198.51.100.7")
        before = AuditEvent.objects.count()
        for _ in range(20):
            stranger.get("/plain-orders/")
        assert AuditEvent.objects.count() == before + 6
        first, second = (NIGHT + timedelta(minutes=minutes) for minutes in (30, 90))
        found = []
        for at in (first, second):
            clock.move_to(at.timestamp())
            event = AuditEvent.objects.get(pk=write(ended))
            found.append(event.at)
            # A stream keeps the instant wherever the row ends.
            written = entries.encode({"at": event.at, "event": "used", "ticket": outcomes.new_ticket(event.at)})
            shown = entries.decode({b"row": written.encode()})["at"]
            assert shown == event.at == datetime(2026, 10, 25, 2, 30)  # noqa: DTZ001
        assert [at.fold for at in found] == [0, 1 if keeps_instants else 0], found
        clock.move_to((NIGHT + timedelta(hours=3)).timestamp())
        run("keys_seal")
        assert not verifying.verify().problems
    page_of_the_log(ended)


def page_of_the_log(key: Any) -> None:
    """The log's pages and its export leave no row out and show none twice."""
    from keys.admin import export
    from keys.models import AuditEvent
    from tests.worlds.admin_pages import boss

    for minutes in range(0, 180, 1):
        moment = NIGHT + timedelta(minutes=minutes)
        write(key, at=moment)
    number = AuditEvent.objects.filter(api_key=key.pk).count()
    browser = boss()
    address, seen = f"/admin/keys/auditevent/?key={key.pk}", 0
    while address:
        changes = browser.get(address).context["cl"]
        seen += len(changes.result_list)
        address = f"/admin/keys/auditevent/{changes.older_url}" if changes.older else ""
    assert seen == number, (seen, number)
    chunk, export.CHUNK = export.CHUNK, 7
    try:
        page = browser.get(f"/admin/keys/auditevent/export/jsonl/?key={key.pk}")
        lines = [json.loads(line) for line in page.getvalue().decode().splitlines()]
    finally:
        export.CHUNK = chunk
    assert len({line["id"] for line in lines}) == len(lines) == number
    assert {line["at"][-6:] for line in lines} <= {"+01:00", "+02:00"}


def the_hour_that_is_skipped() -> None:
    from django.test import Client

    from keys.audit import sealing
    from keys.conf import conf
    from keys.models import APIKey
    from tests.worlds.commands import run

    spring = datetime(2027, 3, 28, 0, 59, tzinfo=UTC)
    with travelled(spring) as clock:
        run("keys_create", "An hour", "--scope", "orders:read", "--expires", "1h")
        key = APIKey.objects.create(name="Until two", expires_at=datetime(2027, 3, 28, 2, 30))  # noqa: DTZ001
        assert key.state == "expiring"
        hour = APIKey.objects.get(name="An hour")
        assert hour.expires_at == datetime(2027, 3, 28, 3, 59)  # noqa: DTZ001
        list(sealing.seal())
        write(key)
        clock.move_to((spring + timedelta(minutes=11)).timestamp())
        # Only eleven minutes have passed, whatever the clocks say.
        vars(conf)["SEAL_AFTER"] = timedelta(hours=1)
        try:
            assert list(sealing.seal()) == []
        finally:
            vars(conf)["SEAL_AFTER"] = timedelta(0)
        clock.move_to((spring + timedelta(minutes=40)).timestamp())
        APIKey.objects.get(pk=key.pk)
        caller = Client(headers={"X-API-Key": key.key})
        assert caller.get("/plain-orders/").status_code == 401


def append_only() -> None:
    """Triggers that let old rows go know local time."""
    from django.db import Error, connection, transaction
    from django.utils import timezone

    from keys.models import APIKey, AuditEvent
    from tests.worlds.commands import run

    if connection.vendor not in {"postgresql", "sqlite"}:
        return
    key, now = APIKey.objects.create(name="Guarded"), timezone.now()
    old, young = (write(key, at=now - timedelta(minutes=minutes)) for minutes in (24 * 60 + 10, 24 * 60 - 10))
    run("keys_guard", "install", "--keep", "1d")
    try:
        assert AuditEvent.objects.filter(pk=old).delete()[0] == 1
        try:
            with transaction.atomic():
                AuditEvent.objects.filter(pk=young).delete()
        except Error:
            return
        raise AssertionError("A row that has to be kept could be deleted.")
    finally:
        run("keys_guard", "remove")


def switched_on() -> None:
    """The seals hold when the project turns USE_TZ on: they are about what is stored."""
    from django.db import connections
    from django.test import override_settings

    from keys.audit import sealing, verifying
    from keys.models import APIKey, AuditEvent

    row = write(APIKey.objects.create(name="Sealed"))
    list(sealing.seal())
    assert verifying.verify().problems == [], verifying.verify().problems
    try:
        with override_settings(USE_TZ=True, TIME_ZONE="UTC"):
            connections.close_all()
            findings = verifying.verify()
            assert not findings.problems, findings.problems
            at = AuditEvent.objects.get(pk=row).at
            AuditEvent.objects.filter(pk=row).update(at=at + timedelta(hours=1))
            assert [problem.row for problem in verifying.verify().problems] == [row]
            AuditEvent.objects.filter(pk=row).update(at=at)
    finally:
        connections.close_all()
    assert verifying.verify().problems == [], verifying.verify().problems


def write(key: Any, **fields: Any) -> int:
    from django.utils import timezone

    from tests.support.log import record

    return record(key, **{"at": timezone.now(), "method": "GET", "path": "/", "duration_ms": 12, **fields}).pk
