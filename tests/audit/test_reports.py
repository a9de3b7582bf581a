"""What the reports say about the audit log."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from keys.audit import reports
from keys.models import APIKey
from tests.support.keys import make_key
from tests.support.log import record

pytestmark = pytest.mark.django_db

EVER = datetime(2000, 1, 1, tzinfo=UTC)


def ago(**units: int) -> datetime:
    return timezone.now() - timedelta(**units)


def ask(client: Client, key: str, path: str = "/guarded/", address: str = "10.0.4.7", agent: str = "curl/8") -> int:
    return client.get(path, REMOTE_ADDR=address, headers={"X-API-Key": key, "User-Agent": agent}).status_code


def test_each_client_of_a_key_has_a_line_with_its_requests(client: Client) -> None:
    key = make_key(scopes=["users:read"])
    for _ in range(3):
        ask(client, key.key)
    ask(client, key.key, agent="python-requests/2")
    ask(client, key.key, address="2001:db8::7")
    ask(client, key.key, path="/scoped/?page=1")

    lines = reports.usage(since=EVER)

    assert {(line.path, line.endpoint, line.address, line.user_agent, line.uses) for line in lines} == {
        ("/guarded/", "guarded", "10.0.4.7", "curl/8", 3),
        ("/guarded/", "guarded", "10.0.4.7", "python-requests/2", 1),
        ("/guarded/", "guarded", "2001:db8::7", "curl/8", 1),
        ("/scoped/", "scoped", "10.0.4.7", "curl/8", 1),
    }
    assert {(line.key_name, line.key_prefix) for line in lines} == {("TTS-Backend", key.prefix)}


def test_refusals_are_counted_beside_the_uses(client: Client) -> None:
    key = make_key(scopes=[])
    assert ask(client, key.key, path="/scoped/") == 403
    key.deactivate()
    assert ask(client, key.key) == 401

    assert {(line.path, line.uses, line.refusals) for line in reports.usage(since=EVER)} == {
        ("/scoped/", 0, 1),
        ("/guarded/", 0, 1),
    }


def test_a_row_that_stands_for_many_refusals_counts_as_many() -> None:
    record(event="refused", reason="unknown", status=401, at=timezone.now(), count=1)
    record(event="refused", reason="unknown", status=401, at=timezone.now(), count=400)
    (line,) = reports.usage(since=EVER)
    assert (line.key_name, line.uses, line.refusals) == ("", 0, 401)


def test_a_use_without_an_outcome_is_reported_as_one() -> None:
    key = make_key()
    record(key, at=timezone.now())
    record(key, at=timezone.now(), status=None)
    (line,) = reports.usage(since=EVER)
    assert (line.uses, line.died) == (2, 1)


def test_the_last_use_is_told_from_the_last_refusal() -> None:
    key, used, refused = make_key(), ago(days=3), ago(days=1)
    record(key, at=ago(days=5))
    record(key, at=used)
    record(key, at=refused, event="refused", reason="rate")
    (line,) = reports.usage(since=EVER)
    assert (line.last_used_at, line.last_at) == (used, refused)


def test_what_was_never_let_in_has_no_last_use() -> None:
    record(make_key(), at=timezone.now(), event="refused", reason="expired")
    assert reports.usage(since=EVER)[0].last_used_at is None


def test_steps_of_a_life_and_older_events_are_no_uses() -> None:
    key = make_key()
    key.rotate()
    record(key, at=ago(days=31))
    assert reports.usage(since=ago(days=30)) == []


def test_the_report_is_narrowed_by_name_prefix_variable_or_key() -> None:
    one, other = make_key("One"), make_key("Other")
    for key in (one, other):
        record(key, at=timezone.now())
    record(key_name="env:WEBHOOK_API_KEY", at=timezone.now())
    record(event="refused", reason="unknown", at=timezone.now())

    def names(key: APIKey | str) -> list[str]:
        return [line.key_name for line in reports.usage(since=EVER, key=key)]

    assert names("One") == ["One"]
    assert names(other.prefix) == ["Other"]
    assert names(one) == ["One"]
    assert names("env:WEBHOOK_API_KEY") == ["env:WEBHOOK_API_KEY"]
    assert names(one.key) == []
    # Strangers have no name; that environment keys have no prefix either makes them no strangers.
    assert names("") == [""]


def test_a_deleted_key_is_still_reported() -> None:
    key = make_key()
    record(key, at=timezone.now())
    prefix = key.prefix
    key.delete()
    assert [line.uses for line in reports.usage(since=EVER, key=prefix)] == [1]


def test_lines_are_sorted_by_key_and_then_by_the_latest_use() -> None:
    beta, alpha = make_key("Beta"), make_key("Alpha")
    record(alpha, at=ago(hours=3), path="/early/")
    record(alpha, at=ago(hours=1), path="/late/")
    record(beta, at=timezone.now(), path="/now/")
    assert [line.path for line in reports.usage(since=EVER)] == ["/late/", "/early/", "/now/"]


def test_a_key_without_a_successor_is_not_safe_to_retire() -> None:
    key = make_key()
    assert reports.retirement(key) == reports.Retirement(None, 0, None, None)
    assert not reports.retirement(key).is_safe
    assert reports.retirement(key).sentence == "Not replaced by a successor; no use on record."


def test_without_a_successor_the_last_use_is_named() -> None:
    key = make_key()
    record(key, at=ago(minutes=3), address="10.0.4.7")
    sentence = reports.retirement(key).sentence
    assert sentence == "Not replaced by a successor; last used 3 minutes ago from 10.0.4.7."


def replaced(days: int) -> APIKey:
    """Return a key that was replaced so many days ago."""
    key = make_key()
    APIKey._base_manager.filter(pk=key.rotate().pk).update(created_at=ago(days=days))
    return APIKey.objects.get(pk=key.pk)


def test_a_replaced_key_that_was_not_used_since_is_safe_to_retire() -> None:
    key = replaced(days=2)
    record(key, at=ago(days=4), address="10.0.4.7")
    report = reports.retirement(key)
    assert report.is_safe
    assert report.uses_since == 0
    assert report.sentence == "Not used since its successor was made 2 days ago: safe to deactivate."


def test_a_key_that_was_in_use_is_given_a_day_after_it_was_replaced() -> None:
    # Its caller may be a daily job that has not run since.
    key = make_key()
    APIKey._base_manager.filter(pk=key.rotate().pk).update(created_at=ago(minutes=2))
    record(key, at=ago(minutes=3), address="10.0.4.7")
    report = reports.retirement(APIKey.objects.get(pk=key.pk))
    assert not report.is_safe
    assert report.sentence == (
        "Last used 3 minutes ago from 10.0.4.7, before its successor was made 2 minutes ago:"
        " not yet safe to deactivate."
    )


def test_a_key_that_nobody_used_for_a_week_is_safe_to_retire_as_soon_as_it_is_replaced() -> None:
    never, long_ago = replaced(days=0), replaced(days=0)
    record(long_ago, at=ago(days=8), address="10.0.4.7")
    for key in (never, long_ago):
        assert reports.retirement(key).is_safe
        assert reports.retirement(key).sentence.endswith(": safe to deactivate.")


def test_a_replaced_key_that_is_still_used_is_not() -> None:
    key = replaced(days=2)
    for address in ("10.0.4.8", "10.0.4.7"):
        record(key, at=ago(minutes=3), address=address)
    record(key, at=ago(days=4), address="10.0.4.1")
    record(key, at=timezone.now(), event="refused", reason="rate", address="10.0.4.2")
    report = reports.retirement(key)
    assert not report.is_safe
    assert report.uses_since == 2
    assert report.sentence.startswith("Last used 3 minutes ago from 10.0.4.")
    assert report.sentence.endswith(", 2 times since its successor was made 2 days ago: not yet safe to deactivate.")


def test_a_week_without_a_use_makes_it_safe() -> None:
    key = replaced(days=30)
    record(key, at=ago(days=8), address="10.0.4.7")
    report = reports.retirement(key)
    assert report.is_safe
    assert "once since its successor was made" in report.sentence
    assert report.sentence.endswith(": safe to deactivate.")


def test_expiring_keys_are_those_that_are_accepted_now_and_not_then() -> None:
    now = timezone.now()
    make_key("soon", expires_at=now + timedelta(days=13))
    make_key("later", expires_at=now + timedelta(days=15))
    make_key("never")
    make_key("over", expires_at=now - timedelta(days=1))
    make_key("off", expires_at=now + timedelta(days=13), is_active=False)
    assert [key.name for key in reports.expiring(timedelta(days=14))] == ["soon"]


def test_unused_keys_are_those_that_could_have_been_used_and_were_not() -> None:
    old = ago(days=100)
    make_key("never used", created_at=old)
    record(make_key("long ago", created_at=old), at=ago(days=91))
    record(make_key("lately", created_at=old), at=ago(days=89))
    record(make_key("only refused", created_at=old), at=ago(days=1), event="refused", reason="scope")
    make_key("new")
    make_key("off", created_at=old, is_active=False)
    make_key("over", created_at=old, expires_at=ago(days=1))
    names = {key.name for key in reports.unused(timedelta(days=90))}
    assert names == {"never used", "long ago", "only refused"}


@pytest.mark.parametrize(
    ("days", "mark"), [(0, ""), (89, ""), (91, "old"), (179, "old"), (181, "overdue"), (2000, "overdue")]
)
def test_old_keys_are_marked(days: int, mark: str) -> None:
    key = make_key(created_at=ago(days=days))
    assert reports.age_mark(APIKey.objects.get(pk=key.pk)) == mark


@pytest.mark.parametrize("fields", [{"is_active": False}, {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}])
def test_keys_that_are_refused_anyway_are_not_marked(fields: dict[str, Any]) -> None:
    key = make_key(created_at=ago(days=200), **fields)
    assert reports.age_mark(APIKey.objects.get(pk=key.pk)) == ""
