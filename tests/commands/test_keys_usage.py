"""`keys_usage` and `keys_prune`: what the log says, and how it forgets."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from keys.models import AuditEvent
from tests.support.commands import Terminal, finish, run
from tests.support.keys import make_key
from tests.support.log import record

SHARED = "shared-secret-of-five-apis-0123456789"


@pytest.mark.django_db
def test_who_still_uses_a_shared_key_is_reported_to_programs(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_API_KEY", SHARED)
    headers = {"X-API-Key": SHARED, "User-Agent": "partner/1.0"}
    for _ in range(3):
        client.post("/api/tracking-ingest/test", headers=headers, REMOTE_ADDR="192.0.2.7")
    client.get("/api/db/records", headers=headers, REMOTE_ADDR="10.0.4.7")
    make_key_in_use(client)

    reported = run("keys_usage", "--key", "env:WEBHOOK_API_KEY", "--json")

    assert (reported.status, reported.err) == (0, "")
    rows = json.loads(reported.out)
    assert [(row["path"], row["address"], row["user_agent"], row["count"]) for row in rows] == [
        ("/api/db/records", "10.0.4.7", "partner/1.0", 1),
        ("/api/tracking-ingest/test", "192.0.2.7", "partner/1.0", 3),
    ]
    assert {(row["key_name"], row["key_prefix"]) for row in rows} == {("env:WEBHOOK_API_KEY", "")}
    assert SHARED not in reported.out


def make_key_in_use(client: Client) -> None:
    client.get("/guarded/", headers={"X-API-Key": make_key().key})


@pytest.mark.django_db
def test_the_fields_of_the_json_are_stable() -> None:
    key, used, refused = make_key(), timezone.now() - timedelta(days=2), timezone.now() - timedelta(days=1)
    request: dict[str, Any] = {"path": "/a/", "endpoint": "a", "address": "10.0.4.7", "user_agent": "curl/8"}
    record(key, at=used, status=None, **request)
    record(key, at=refused, event="refused", reason="rate", count=4, **request)
    (row,) = json.loads(run("keys_usage", "--json").out)
    assert row.pop("last_at").startswith(f"{refused:%Y-%m-%dT%H:%M:%S}")
    assert row.pop("last_used_at").startswith(f"{used:%Y-%m-%dT%H:%M:%S}")
    assert row == {
        "key_name": "TTS-Backend", "key_prefix": key.prefix, **request,
        "count": 5, "uses": 1, "died": 1, "refusals": 4,
    }  # fmt: skip


@pytest.mark.django_db
def test_people_get_a_table() -> None:
    key, now = make_key(), timezone.now()
    request: dict[str, Any] = {"path": "/api/x/", "address": "10.0.4.7", "user_agent": "curl/8\\x1b"}
    for status in (200, 404, None):
        record(key, at=now - timedelta(minutes=3), status=status, **request)
    record(event="refused", reason="unknown", at=now - timedelta(hours=2), count=400, **request)
    heading, stranger, known = run("keys_usage").out.splitlines()
    assert heading.split() == ["KEY", "PREFIX", "PATH", "ADDRESS", "USER", "AGENT", "USES", "DIED", "REFUSED", "LAST"]
    assert " ".join(stranger.split()) == r"(unknown key) /api/x/ 10.0.4.7 curl/8\x1b 0 0 400 2 hours ago"
    assert " ".join(known.split()) == rf"TTS-Backend {key.prefix} /api/x/ 10.0.4.7 curl/8\x1b 3 1 0 3 minutes ago"
    # Numbers stand to the right, under their heading.
    end = heading.index("REFUSED") + len("REFUSED")
    assert (stranger[:end].split()[-1], known[:end].split()[-1]) == ("400", "0")


@pytest.mark.django_db
def test_the_table_names_the_host_behind_a_gateway_and_the_service_that_asked() -> None:
    key, now = make_key(), timezone.now()
    record(key, at=now, endpoint="gateway:orders.example", path="/a/", address="10.0.4.7")
    record(key, at=now, endpoint="gateway:billing.example", path="/a/", address="10.0.4.7")
    record(key, at=now, endpoint="introspection:Orders", path="/introspect/")
    _, *lines = run("keys_usage").out.splitlines()
    assert sorted(re.split(r" {2,}", line)[2] for line in lines) == [
        "Orders, which asked about it", "billing.example/a/", "orders.example/a/",
    ]  # fmt: skip


@pytest.mark.django_db
def test_one_api_is_reported_alone() -> None:
    key, now = make_key(), timezone.now()
    for endpoint in ("gateway:orders.example", "gateway:orders.example.com", "guarded"):
        record(key, at=now, endpoint=endpoint, path="/a/")

    def endpoints(*arguments: str) -> list[str]:
        return [row["endpoint"] for row in json.loads(run("keys_usage", "--json", *arguments).out)]

    assert endpoints("--endpoint", "gateway:orders.example") == ["gateway:orders.example"]
    assert endpoints("--endpoint", "guarded", "--key", "TTS-Backend") == ["guarded"]
    # Views that nobody called.
    for narrowed in ([], ["--key", "TTS-Backend"]):
        reported = run("keys_usage", "--endpoint", "scoped", *narrowed)
        assert (reported.status, reported.out) == (0, "")
        assert "Not used in the last 30 days." in reported.err
    make_key("Other")
    assert run("keys_usage", "--endpoint", "guarded", "--key", "Other").status == 0
    unknown = run("keys_usage", "--endpoint", "gateway:orders")
    assert (unknown.status, unknown.out) == (1, "")
    assert "No view has that name, and the log of these days knows none." in unknown.err
    assert "looks like a key itself" in run("keys_usage", "--endpoint", "0" * 40).err


@pytest.mark.django_db
def test_only_the_last_days_are_reported() -> None:
    key = make_key()
    for days in (6, 8, 29, 31):
        record(key, at=timezone.now() - timedelta(days=days), path=f"/{days}/")

    def paths(*arguments: str) -> list[str]:
        return [row["path"] for row in json.loads(run("keys_usage", "--json", *arguments).out)]

    assert paths("--days", "7") == ["/6/"]
    assert paths() == ["/6/", "/8/", "/29/"]


@pytest.mark.django_db
def test_a_key_is_named_by_name_prefix_or_id() -> None:
    one, other = make_key("One"), make_key("Other")
    for key in (one, other):
        record(key, at=timezone.now())
    for name in ("One", one.prefix, str(one.pk)):
        assert [row["key_name"] for row in json.loads(run("keys_usage", "--json", "--key", name).out)] == ["One"]


@pytest.mark.django_db
def test_a_name_covers_a_key_and_its_successor() -> None:
    key = make_key()
    successor = key.rotate()
    for used in (key, successor):
        record(used, at=timezone.now())
    rows = json.loads(run("keys_usage", "--json", "--key", "TTS-Backend").out)
    assert {row["key_prefix"] for row in rows} == {key.prefix, successor.prefix}


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["TTS-Backend", "env:WEBHOOK_API_KEY"])
def test_a_key_that_is_not_used_has_an_empty_report(name: str) -> None:
    make_key()
    record(at=timezone.now() - timedelta(days=31))
    reported = run("keys_usage", "--key", name)
    assert (reported.status, reported.out) == (0, "")
    assert "Not used in the last 30 days." in reported.err
    assert json.loads(run("keys_usage", "--key", name, "--json").out) == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("TTS-Backed", "No key has that name"),
        ("env:WEBHOK_API_KEY", "No view reads that variable, only INTERNAL_API_KEY"),
    ],
)
def test_a_mistyped_name_is_not_reported_as_unused(name: str, sentence: str) -> None:
    make_key()
    reported = run("keys_usage", "--key", name, "--json")
    assert (reported.status, reported.out) == (1, "")
    assert sentence in reported.err


@pytest.mark.django_db
@pytest.mark.parametrize("days", ["0", "-3", "36501", "week"])
def test_days_are_a_number_above_zero(days: str) -> None:
    reported = run("keys_usage", f"--days={days}")
    assert (reported.status, reported.out) == (1, "")


def old_and_new(key_name: str = "") -> None:
    now = timezone.now()
    for days in (400, 366, 364, 0):
        record(key_name=key_name, at=now - timedelta(days=days), path=f"/{days}/")


def paths() -> list[str]:
    return list(AuditEvent.objects.filter(event="used").order_by("at").values_list("path", flat=True))


@pytest.mark.django_db
def test_pruning_says_what_it_did_and_records_it() -> None:
    old_and_new()
    pruned = run("keys_prune", "--older-than", "365d")
    assert (pruned.status, pruned.out) == (0, "")
    assert pruned.err.startswith("Deleted 2 events from before ")
    assert len(pruned.err.splitlines()) == 1  # no progress where nobody watches
    assert paths() == ["/364/", "/0/"]
    announced, event = AuditEvent.objects.filter(event="pruned").order_by("id")
    assert (announced.count, event.count) == (0, 2)
    assert announced.actor == event.actor
    assert event.actor.startswith("command line: ")


@pytest.mark.matrix
@pytest.mark.django_db(transaction=True)
def test_on_a_terminal_each_batch_moves_the_progress_on() -> None:
    old_and_new()
    with Terminal() as terminal:
        process = terminal.start("keys_prune", "--older-than=1d", "--batch-size=1", streams=["stderr"])
        shown = terminal.read_to_end()
        assert finish(process).status == 0
    for line in ("1 of 3 events, 33 %", "2 of 3 events, 66 %", "3 of 3 events, 100 %", "Deleted 3 events"):
        assert line in shown


@pytest.mark.django_db
def test_the_lives_of_keys_are_kept_unless_asked_for() -> None:
    make_key()
    AuditEvent.objects.update(at=timezone.now() - timedelta(days=400))
    run("keys_prune", "--older-than", "365d")
    assert AuditEvent.objects.filter(event="created").exists()
    run("keys_prune", "--older-than", "365d", "--life-cycle")
    assert not AuditEvent.objects.filter(event="created").exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "arguments",
    [[], ["--older-than", "1y"], ["--older-than=365"], ["--older-than=1d", "--batch-size=0"],
     ["--older-than=1d", "--batch-size=1000000"]],
)  # fmt: skip
def test_without_a_clear_order_nothing_is_pruned(arguments: list[str]) -> None:
    old_and_new()
    pruned = run("keys_prune", *arguments)
    assert (pruned.status, pruned.out) == (1, "")
    assert len(paths()) == 4


@pytest.mark.django_db
def test_refusals_from_many_networks_have_no_address() -> None:
    record(at=timezone.now(), event="refused", reason="unknown", count=4, detail="from many networks")
    record(at=timezone.now(), event="refused", reason="unknown", path="/a/")
    many, one = sorted(run("keys_usage").out.splitlines()[1:], key=lambda line: "many networks" not in line)
    assert "many networks" in many
    assert one.split()[2:5] == ["/a/", "?", "0"]
