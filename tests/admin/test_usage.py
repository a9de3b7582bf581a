"""The report on usage in the admin: which key is used on which API, and which one may be retired."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from keys.admin import usage_page
from keys.audit import reports
from keys.models import APIKey, AuditEvent
from tests.support.admin import LIST, LOG, USAGE, page_of, staff, text_of
from tests.support.keys import make_key
from tests.support.log import record

pytestmark = pytest.mark.django_db

SHARED = "shared-secret-of-five-apis-0123456789"
DEDICATED = "dedicated-secret-of-one-partner-0123456789"


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_API_KEY", SHARED)
    monkeypatch.setenv("TRACKING_INGEST_API_KEY", DEDICATED)


def days_ago(days: float) -> Any:
    return timezone.now() - timedelta(days=days)


def call(key: str, path: str, address: str) -> None:
    Client().post(path, headers={"X-API-Key": key}, REMOTE_ADDR=address)


def report(client: Client, **query: Any) -> Any:
    response = client.get(USAGE, query)
    assert response.status_code == 200
    return response.context


def variable(client: Client, name: str, **query: Any) -> Any:
    return next(one for one in report(client, **query)["variables"] if one.name == name)


def shown(response: Any) -> str:
    """Return the words of a page, without its tags."""
    return " ".join(re.sub(r"<[^>]*>", " ", text_of(response)).split())


def test_the_report_says_what_a_variable_was_used_on_from_where_and_when(admin_client: Client) -> None:
    for address in ("192.0.2.7", "192.0.2.7", "192.0.2.8"):
        call(SHARED, "/api/tracking-ingest/test", address)
    webhook = variable(admin_client, "env:WEBHOOK_API_KEY")
    row = webhook.rows["tracking:ingest-test"]
    assert (row.path, row.uses, row.refusals, row.addresses) == (
        "/api/tracking-ingest/test", 3, 0, ["192.0.2.8", "192.0.2.7"],
    )  # fmt: skip
    assert webhook.verdict == "used"
    assert re.fullmatch(r"Last used .* from 192\.0\.2\.8 on tracking:ingest-test\.", webhook.sentence)
    text = shown(admin_client.get(USAGE))
    assert "env:WEBHOOK_API_KEY in use Last used" in text


def test_apis_that_a_variable_opens_and_nobody_called_are_shown(admin_client: Client) -> None:
    call(SHARED, "/api/automation/run", "192.0.2.7")
    rows = variable(admin_client, "env:WEBHOOK_API_KEY").rows
    assert rows["tracking:run"].uses == 1
    assert {"tracking:ingest-test", "tracking:ingest-batch", "tracking:records"} <= rows.keys()
    assert rows["tracking:ingest-test"].last_used_at is None


def test_a_variable_that_nobody_used_for_the_whole_time_may_be_retired(admin_client: Client) -> None:
    record(key_name="env:WEBHOOK_API_KEY", at=days_ago(40), address="192.0.2.7", endpoint="tracking:records")
    record(key_name="env:TRACKING_INGEST_API_KEY", at=days_ago(3))
    webhook = variable(admin_client, "env:WEBHOOK_API_KEY")
    assert webhook.verdict == "safe"
    assert webhook.sentence.startswith("Not used in the last 30 days. Last used 1 month")
    assert webhook.sentence.endswith("from 192.0.2.7 on tracking:records.")
    assert variable(admin_client, "env:INTERNAL_API_KEY").verdict == "safe"
    assert variable(admin_client, "env:TRACKING_INGEST_API_KEY").verdict == "used"
    assert variable(admin_client, "env:WEBHOOK_API_KEY", days=90).verdict == "used"


def test_a_log_that_is_younger_than_the_question_retires_nothing(admin_client: Client) -> None:
    assert variable(admin_client, "env:WEBHOOK_API_KEY").sentence == "Nothing is on record yet."
    record(make_key(created_at=days_ago(90)), at=days_ago(3))
    webhook = variable(admin_client, "env:WEBHOOK_API_KEY")
    assert (webhook.verdict, webhook.sentence) == ("early", "No use on record, but the log begins only 3 days ago.")


def test_a_refusal_is_no_use(admin_client: Client) -> None:
    record(at=days_ago(60), event="refused", reason="unknown")
    record(
        key_name="env:WEBHOOK_API_KEY", at=days_ago(1), event="refused", reason="scope", count=4, endpoint="jobs:list"
    )
    webhook = variable(admin_client, "env:WEBHOOK_API_KEY")
    assert webhook.verdict == "safe"
    assert (webhook.rows["jobs:list"].uses, webhook.rows["jobs:list"].refusals) == (0, 4)


def test_where_a_transition_has_ended_the_report_says_so(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKING_INGEST_ALLOW_SHARED_KEY", "false")
    rows = variable(admin_client, "env:WEBHOOK_API_KEY").rows
    assert rows["tracking:ingest-test"].switched_off_by == "TRACKING_INGEST_ALLOW_SHARED_KEY"
    assert rows["tracking:records"].switched_off_by == ""
    assert "switched off TRACKING_INGEST_ALLOW_SHARED_KEY" in shown(admin_client.get(USAGE))


def test_a_variable_that_is_not_set_or_that_no_view_reads_is_marked(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBHOOK_API_KEY", " ")
    record(key_name="env:OLD_KEY", at=days_ago(1))
    assert not variable(admin_client, "env:WEBHOOK_API_KEY").is_set
    assert variable(admin_client, "env:TRACKING_INGEST_API_KEY").is_set
    assert not variable(admin_client, "env:OLD_KEY").is_read
    text = shown(admin_client.get(USAGE))
    assert "too early to say not set" in text
    assert "env:OLD_KEY in use read by no view" in text


def test_each_key_has_its_apis_under_its_name(admin_client: Client) -> None:
    one, other = make_key("One"), make_key("Other")
    record(one, at=days_ago(1), endpoint="users", path="/users/1/", address="10.0.0.1")
    record(one, at=days_ago(2), endpoint="users", path="/users/2/", address="10.0.0.2")
    record(one, at=days_ago(3), endpoint="employees", event="refused", reason="scope")
    record(other, at=days_ago(4), endpoint="users")
    # The log keeps the name that a key had.
    one.name = "Renamed"
    one.save()
    record(one, at=days_ago(0), endpoint="users", path="/users/3/", address="10.0.0.1")
    holders = report(admin_client)["page"].object_list
    assert [(holder.key_id, [*holder.rows]) for holder in holders] == [
        (one.pk, ["users", "employees"]), (other.pk, ["users"]),
    ]  # fmt: skip
    users, employees = holders[0].rows.values()
    assert (users.uses, users.addresses) == (3, ["10.0.0.1", "10.0.0.2"])
    assert (employees.uses, employees.refusals, employees.last_used_at) == (0, 1, None)


def test_a_long_list_of_addresses_is_cut(admin_client: Client) -> None:
    key = make_key()
    for number in range(5):
        record(key, at=days_ago(number), endpoint="users", address=f"10.0.0.{number}")
    text = shown(admin_client.get(USAGE))
    assert "10.0.0.0 10.0.0.1 10.0.0.2 and 2 more" in text


def test_a_deleted_key_is_reported_by_its_name(admin_client: Client) -> None:
    key = make_key("Gone")
    record(key, at=days_ago(1))
    address = page_of(key)
    key.delete()
    text = text_of(admin_client.get(USAGE))
    assert "Gone" in text
    assert address not in text


def test_keys_that_were_not_used_are_named_with_what_may_become_of_them(admin_client: Client) -> None:
    old = days_ago(100)
    record(make_key("in use", created_at=old), at=days_ago(1))
    record(make_key("used before", created_at=old), at=days_ago(50))
    make_key("never used", created_at=old)
    make_key("new")
    make_key("off", created_at=old, is_active=False)
    make_key("over", created_at=old, expires_at=days_ago(1))
    unused = {holder.name: holder.verdict for holder in report(admin_client)["unused"]}
    assert unused == {"used before": "safe", "never used": "safe", "new": "early"}
    assert "Accepted, and not used in the last 30 days" in shown(admin_client.get(USAGE))


def test_more_unused_keys_than_are_shown_are_to_be_found_in_the_list(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_page, "UNUSED_SHOWN", 2)
    for number in range(3):
        make_key(f"Service {number}")
    text = text_of(admin_client.get(USAGE))
    assert "There are more." in text
    (link,) = re.findall(r'href="([^"]*\?o=5)"', text)
    listed = admin_client.get(link).context["cl"]
    assert [listed.list_display[column] for column in listed.get_ordering_field_columns()] == ["last_use"]


def test_strangers_are_reported_apart(admin_client: Client) -> None:
    call("0" * 40, "/api/tracking-ingest/test", "198.51.100.9")
    (strangers,) = report(admin_client)["strangers"]
    assert strangers.rows["tracking:ingest-test"].refusals == 1
    assert "Refused without a known key" in shown(admin_client.get(USAGE))


@pytest.mark.parametrize("days", ["", "0", "-1", "x", "36501", "9" * 30, "7.5", "٣"])
def test_days_that_are_none_are_thirty(admin_client: Client, days: str) -> None:
    record(make_key(), at=days_ago(29))
    response = admin_client.get(USAGE, {"days": days})
    assert response.status_code == 200
    assert response.context["period"].days == 30
    assert "That is no number of days from 1 to 36500" in text_of(response)


def test_only_the_days_that_were_asked_for_count(admin_client: Client) -> None:
    key = make_key()
    for days in (6, 8, 29, 31):
        record(key, at=days_ago(days), endpoint=f"of {days}")

    def apis(**query: Any) -> list[str]:
        return [api for holder in report(admin_client, **query)["page"].object_list for api in holder.rows]

    assert apis(days=7) == ["of 6"]
    assert apis() == ["of 6", "of 8", "of 29"]
    assert len(apis(days=36_500)) == 4


def test_the_report_can_be_narrowed_to_a_key(admin_client: Client) -> None:
    one, other = make_key("One"), make_key("Other")
    for key in (one, other):
        record(key, at=days_ago(1))
    narrowed = report(admin_client, key=one.pk)
    assert [holder.name for holder in narrowed["page"].object_list] == ["One"]
    assert (narrowed["variables"], narrowed["unused"]) == ([], [])
    assert narrowed["sentence"].startswith("Not replaced by a successor; last used 1 day")
    (only,) = report(admin_client, key="env:WEBHOOK_API_KEY")["variables"]
    assert only.name == "env:WEBHOOK_API_KEY"


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("999999", "There is no such key"), ("x", "There is no such key"), ("9" * 40, "There is no such key"),
        ("env:WEBHOK", "No view reads that variable"), ("env:\x00", "No view reads that variable"),
    ],
)  # fmt: skip
def test_a_key_that_is_none_is_said_to_be_none(admin_client: Client, key: str, sentence: str) -> None:
    response = admin_client.get(USAGE, {"key": key})
    assert response.status_code == 200
    assert sentence in text_of(response)


@pytest.mark.parametrize("page", ["0", "-1", "x", "999"])
def test_a_page_that_is_none_is_another(admin_client: Client, page: str) -> None:
    record(make_key(), at=days_ago(1))
    assert report(admin_client, page=page)["page"].number == 1


def test_many_keys_are_shown_a_page_at_a_time(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_page, "KEYS_PER_PAGE", 2)
    for number in range(5):
        record(make_key(f"Service {number}"), at=days_ago(number))
    named = [[holder.name for holder in report(admin_client, page=page)["page"].object_list] for page in (1, 2, 3)]
    assert named == [["Service 0", "Service 1"], ["Service 2", "Service 3"], ["Service 4"]]
    assert "Page 2 of 3" in shown(admin_client.get(USAGE, {"page": 2}))


def test_no_more_is_counted_than_somebody_can_wait_for(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "READ", 3)
    busy, quiet = make_key("Busy", created_at=days_ago(90)), make_key("Quiet", created_at=days_ago(90))
    AuditEvent.objects.all().delete()
    record(quiet, at=days_ago(2))
    record(key_name="env:WEBHOOK_API_KEY", at=days_ago(60))
    record(key_name="env:TRACKING_INGEST_API_KEY", at=days_ago(2), endpoint="tracking:ingest-test")
    for number in range(10):
        record(busy, at=days_ago(number / 100), endpoint="users")
    whole = report(admin_client)
    (holder,) = whole["page"].object_list
    assert (holder.name, holder.rows["users"].uses) == ("Busy", 3)
    assert "More is on record than is counted while you wait" in shown(admin_client.get(USAGE))
    # What may be retired is told by an index, however busy the others are.
    judged = {one.name: one.verdict for one in whole["variables"]}
    assert judged["env:WEBHOOK_API_KEY"] == "safe"
    assert judged["env:TRACKING_INGEST_API_KEY"] == "used"
    assert [(one.name, one.verdict) for one in whole["unused"]] == [("Quiet", "used")]
    # One key alone is counted further back.
    narrowed = variable(admin_client, "env:TRACKING_INGEST_API_KEY", key="env:TRACKING_INGEST_API_KEY")
    assert narrowed.rows["tracking:ingest-test"].uses == 1


def test_the_number_of_queries_does_not_grow_with_the_keys(
    admin_client: Client, django_assert_num_queries: Any
) -> None:
    record(make_key("Service"), at=days_ago(1))
    admin_client.get(USAGE)
    with CaptureQueriesContext(connection) as one:
        admin_client.get(USAGE)
    for number in range(20):
        record(make_key(f"Service {number}"), at=days_ago(number))
        make_key(f"Unused {number}")
    with django_assert_num_queries(len(one)):
        admin_client.get(USAGE)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="Others read so few rows without an index.")
def test_the_last_use_of_a_variable_is_found_by_an_index() -> None:
    uses = AuditEvent.objects.filter(api_key=None, key_name="env:WEBHOOK_API_KEY", event="used")
    assert "keys_event_env" in uses.order_by("-at")[:1].explain()


def test_reading_takes_the_permission_to_read_the_log() -> None:
    key = APIKey.objects.create(name="TTS")
    stranger, reader = staff("view_apikey"), staff("view_apikey", "view_auditevent", username="bob")
    assert stranger.get(USAGE).status_code == 403
    assert Client().get(USAGE).status_code == 302
    assert reader.get(USAGE).status_code == 200
    for page in (LIST, page_of(key)):
        assert USAGE not in text_of(stranger.get(page))
        assert USAGE in text_of(reader.get(page))
    assert f"{USAGE}?key={key.pk}" in text_of(reader.get(page_of(key)))
    assert USAGE in text_of(reader.get(LOG))


def test_who_may_not_see_keys_gets_no_links_to_them() -> None:
    key = make_key()
    record(key, at=days_ago(1))
    assert page_of(key) not in text_of(staff("view_auditevent").get(USAGE))
    assert page_of(key) in text_of(staff("view_auditevent", "view_apikey", username="bob").get(USAGE))


def test_an_empty_log_says_what_to_do(admin_client: Client) -> None:
    text = shown(admin_client.get(USAGE))
    assert "No request with a key is on record in this time" in text
    assert "Call a guarded endpoint" in text


def test_refusals_from_many_networks_have_a_line(admin_client: Client) -> None:
    record(at=timezone.now(), event="refused", reason="unknown", count=4, detail="from many networks")
    page = shown(admin_client.get(USAGE))
    assert "several APIs" in page
    assert "many networks" in page
