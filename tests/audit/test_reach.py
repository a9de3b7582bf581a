"""How far back the log reaches, and that nothing is said of the time before."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from keys.audit import reports, retention
from keys.audit.reach import pruned_before, reach
from keys.audit.retention import Pruning
from keys.models import APIKey, AuditEvent
from keys.moments import local
from tests.support.admin import DEACTIVATE, LIST, USAGE, page_of, text_of
from tests.support.commands import run
from tests.support.keys import make_key
from tests.support.log import record
from tests.support.tables import execute

pytestmark = pytest.mark.django_db

QUARTER = timedelta(days=90)


def ago(days: float) -> datetime:
    return timezone.now() - timedelta(days=days)


def day(moment: datetime) -> str:
    return f"{local(moment):%Y-%m-%d}"


@pytest.fixture
def pruned() -> APIKey:
    """A key that was made 100 days ago and used 40 days ago, in a log of which the last 30 days are left."""
    key = make_key("Billing", created_at=ago(100))
    AuditEvent.objects.update(at=ago(100))
    record(key, at=ago(40))
    retention.prune(ago(30))
    return key


def test_an_empty_log_reaches_nowhere() -> None:
    assert reach().since is None
    assert reach().unused(timezone.now()) == "not known: the log is empty"


def test_a_log_reaches_back_to_its_first_row_and_no_further_than_retention_left_it(pruned: APIKey) -> None:
    AuditEvent.objects.filter(event="pruned").delete()
    assert reach().since == AuditEvent.objects.get(event="created").at
    retention.prune(ago(50))
    assert reach().since == ago(50).replace(microsecond=0)
    # One that keeps more gives nothing back.
    retention.prune(ago(70))
    assert day(reach().since or ago(0)) == day(ago(50))


def test_a_deletion_that_was_interrupted_counts() -> None:
    record(at=ago(100))
    Pruning(ago(20).replace(microsecond=0), False).announce()
    assert reach().since == ago(20).replace(microsecond=0)


def test_what_retention_took_is_found_however_long_it_keeps() -> None:
    def prune(days: float, keeps: float) -> None:
        Pruning(ago(days + keeps).replace(microsecond=0), False, True).conclude(1)
        newest = AuditEvent.objects.filter(event="pruned").latest("id")
        AuditEvent.objects.filter(pk=newest.pk).update(at=ago(days))

    record(at=ago(900))
    for days in range(800, 0, -100):
        prune(days, 365)
    assert day(pruned_before() or ago(0)) == day(ago(465))
    prune(300, 30)
    assert day(pruned_before() or ago(0)) == day(ago(330))


@pytest.mark.skipif(connection.vendor not in {"sqlite", "postgresql"}, reason="Reads these databases' plans.")
def test_it_is_found_by_indexes() -> None:
    with CaptureQueriesContext(connection) as queries:
        reach()
    if connection.vendor == "postgresql":
        # On a table as small as this the planner would read all of it.
        execute("SET LOCAL enable_seqscan = off")
    explain = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    plans = [str(execute(explain + (query["sql"] or "").replace("%", "%%"))) for query in queries]
    assert len(plans) == 3
    for plan, name in zip(plans, ("at", "step", "step"), strict=True):
        index = {"at": "keys_auditevent_past_at_idx", "step": "keys_auditevent_past_api_key_id_at_idx1"}[name]
        assert (index if connection.vendor == "postgresql" else f"keys_event_{name}") in plan, plan


class TestPruned:
    def test_a_use_that_was_taken_is_not_told_as_none(self, pruned: APIKey) -> None:
        assert list(reports.unused(QUARTER)) == []
        assert reports.untold(QUARTER) == 1
        assert [key.name for key in reports.unused(timedelta(days=29))] == ["Billing"]

    def test_the_commands_say_since_when(self, pruned: APIKey) -> None:
        begins = day(ago(30))
        listed = run("keys_list", "--unused", "90d")
        assert (listed.status, listed.out) == (0, "")
        assert listed.err == f"The log begins on {begins}: it cannot tell whether 1 keys were unused for 90d.\n"
        assert f"not since {begins}, where the log begins" in run("keys_list").out
        (told,) = json.loads(run("keys_list", "--json").out)
        assert (told["last_used_at"], told["known_since"][:10]) == (None, f"{ago(30):%Y-%m-%d}")
        assert run("keys_usage", "--days", "90", "--key", "Billing").err == (
            f"Not used since {begins}, where the log begins.\n"
        )
        assert run("keys_usage", "--days", "20", "--key", "Billing").err == "Not used in the last 20 days.\n"
        record(pruned, at=ago(1))
        assert run("keys_usage", "--days", "90").err == f"The log begins on {begins}: what was before is not counted.\n"

    def test_the_admin_says_since_when(self, pruned: APIKey, admin_client: Client) -> None:
        words = f"not since {day(ago(30))}, where the log begins"

        def listed(use: str) -> set[str]:
            return {key.name for key in admin_client.get(LIST, {"use": use}).context["cl"].result_list}

        assert (listed("never"), listed("90"), listed("unknown")) == (set(), set(), {"Billing"})
        young = make_key("Young")
        assert (listed("never"), listed("90"), listed("unknown")) == ({"Young"}, {"Young"}, {"Billing"})
        assert text_of(admin_client.get(LIST)).count(words) == 2  # the filter and the column
        assert f"<dd>{words}</dd>" in text_of(admin_client.get(page_of(pruned)))
        assert "<dd>never</dd>" in text_of(admin_client.get(page_of(young)))
        assert words.removeprefix("not ") in text_of(admin_client.get(DEACTIVATE, {"keys": pruned.pk}))
        page = admin_client.get(USAGE, {"days": 90})
        assert {each.name: each.verdict for each in page.context["unused"]} == {"Billing": "early", "Young": "early"}
        assert "no use on record in the last 90 days" in text_of(page)
        assert words in text_of(page)
        known = admin_client.get(USAGE, {"days": 20})
        assert {each.name: each.verdict for each in known.context["unused"]} == {"Billing": "safe", "Young": "early"}

    def test_a_variable_too(self, pruned: APIKey, admin_client: Client) -> None:
        for days, verdict in ((90, "early"), (20, "safe")):
            variables = admin_client.get(USAGE, {"days": days}).context["variables"]
            assert {each.verdict for each in variables} == {verdict}

    @pytest.mark.parametrize(
        ("replaced", "kept", "is_safe"), [(20, 3, False), (2, 3, True), (20, 8, True), (20, 30, True), (0.5, 3, False)]
    )
    def test_a_key_is_safe_to_retire_only_if_the_log_knows(self, replaced: float, kept: float, is_safe: bool) -> None:
        key = make_key(created_at=ago(100))
        APIKey._base_manager.filter(pk=key.rotate().pk).update(created_at=ago(replaced))
        AuditEvent.objects.update(at=ago(99))
        retention.prune(ago(kept))
        report = reports.retirement(APIKey.objects.get(pk=key.pk))
        assert report.is_safe is is_safe
        assert report.sentence.endswith(": safe to deactivate." if is_safe else ": not yet safe to deactivate.")
        is_known = replaced < kept
        assert ("where the log begins" in report.sentence) is not is_known
        assert run("keys_deactivate", str(key.pk), "--if-safe", "--no-input").status == (0 if is_safe else 1)


def test_a_key_that_is_older_than_the_log_is_not_said_to_be_unused() -> None:
    """As of one that was taken over, or imported."""
    APIKey._base_manager.filter(pk=make_key("Old").pk).update(created_at=ago(800))
    assert list(reports.unused(QUARTER)) == []
    assert "not since" in run("keys_list").out
    assert "where the log begins" in reports.retirement(APIKey.objects.get()).sentence
    record(at=ago(91))
    assert [key.name for key in reports.unused(QUARTER)] == ["Old"]


@pytest.mark.parametrize("year", [1970, 2000])
def test_a_dead_clock_tells_nothing(year: int) -> None:
    wrong, key = datetime(year, 1, 1, 0, 0, 5, tzinfo=UTC), make_key("Old", created_at=ago(800))
    record(at=wrong)
    assert list(reports.unused(QUARTER)) == []
    assert "not since" in run("keys_list").out
    # A use of such a time may have been yesterday.
    record(at=ago(100))
    assert [each.name for each in reports.unused(QUARTER)] == ["Old"]
    record(key, at=wrong)
    assert list(reports.unused(QUARTER)) == []
    APIKey._base_manager.filter(pk=key.rotate().pk).update(created_at=ago(20))
    assert not reports.retirement(APIKey.objects.get(pk=key.pk)).is_safe


def test_no_time_is_too_late_for_the_reports(admin_client: Client) -> None:
    key = make_key("TTS")
    record(key, at=datetime.max.replace(tzinfo=UTC))
    assert run("keys_list").status == run("keys_usage").status == 0
    assert "stays active" in run("keys_deactivate", "TTS", "--if-safe").err
    for page in ("", f"{key.pk}/change/"):
        assert admin_client.get(f"/admin/keys/apikey/{page}").status_code == 200


@pytest.mark.skipif(connection.vendor != "postgresql", reason="Only PostgreSQL has times that Python has not.")
@pytest.mark.parametrize("time", ["infinity", "-infinity", "0044-03-15 BC", "20000-01-01"])
def test_no_page_fails_because_of_a_time_that_python_does_not_have(time: str, admin_client: Client) -> None:
    key = make_key("TTS")
    event = record(key, at=ago(1))
    execute("UPDATE keys_auditevent SET at = %s", [time])
    event.refresh_from_db()
    assert event.at.year == (9999 if time in {"infinity", "20000-01-01"} else 1)
    pages = (
        "apikey/",
        f"apikey/{key.pk}/change/",
        "auditevent/",
        f"auditevent/{event.pk}/change/",
        "auditevent/usage/",
    )
    for page in pages:
        assert admin_client.get(f"/admin/keys/{page}", follow=True).status_code == 200, page
    for command in ("keys_list", "keys_usage"):
        assert run(command, "--json").status == 0
    assert "stays active" in run("keys_deactivate", "TTS", "--if-safe").err


def test_events_of_the_future_are_told() -> None:
    record(make_key(), at=datetime(2099, 1, 1, tzinfo=UTC))
    sentence = "1 events have a time that is yet to come"
    assert sentence in run("keys_usage").err
    assert sentence in run("keys_prune", "--older-than", "1d").err
    if connection.vendor == "postgresql":
        assert sentence in run("keys_partition", "--older-than", "1d").err
    assert AuditEvent.objects.filter(at__year=2099).count() == 1
