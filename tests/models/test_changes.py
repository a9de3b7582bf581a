"""Each event says what changed, from which value to which, however the change was made."""

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import models
from django.db.models import Case, F, Value, When
from django.db.models.functions import Concat
from django.test import Client
from django.test.utils import isolate_apps

from keys import signals
from keys.models import APIKey, AuditEvent, StaleKeyError, changes
from tests.support.admin import ADD, DEACTIVATE, LIST, LOG, form_of, page_of, text_of
from tests.support.keys import assign, change
from tests.support.log import body_of

pytestmark = pytest.mark.django_db

TOKEN = "0123456789abcdef0123456789abcdef01234567"
AT = datetime(2030, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def key() -> APIKey:
    made = APIKey.objects.create(name="A", scopes=["users:read"])
    AuditEvent.objects.all().delete()
    return made


def told() -> list[tuple[str, dict[str, Any]]]:
    """Return event and changes of each life-cycle event."""
    return list(AuditEvent.objects.steps().order_by("id").values_list("event", "changes"))


HOW: dict[str, Callable[..., Any]] = {
    "save": lambda key, /, **values: change(key, **values),
    "save some": lambda key, /, **values: assign(key, **values).save(update_fields=[*values]),
    "asave": lambda key, /, **values: async_to_sync(assign(key, **values).asave)(),
    "update": lambda key, /, **values: APIKey.objects.filter(name="A").update(**values),
    "aupdate": lambda key, /, **values: async_to_sync(APIKey.objects.filter(name="A").aupdate)(**values),
    "update_or_create": lambda key, /, **values: APIKey.objects.update_or_create(name="A", defaults=values),
    "bulk_update": lambda key, /, **values: APIKey.objects.bulk_update([assign(key, **values)], [*values]),
    "Django's own manager": lambda key, /, **values: APIKey._base_manager.filter(pk=key.pk).update(**values),
    "over its row": lambda key, /, **values: assign(
        APIKey(pk=key.pk, name="A", key=key.key, prefix=key.prefix, created_at=key.created_at, scopes=["users:read"]),
        **values,
    ).save(),
}


@pytest.mark.parametrize("how", HOW)
class TestAChange:
    def test_there_and_back_shows_what_it_was_meanwhile(self, key: APIKey, how: str) -> None:
        HOW[how](key, scopes=["*"])
        HOW[how](APIKey.objects.get(), scopes=["users:read"])
        assert told() == [
            ("changed", {"scopes": [["users:read"], ["*"]]}),
            ("changed", {"scopes": [["*"], ["users:read"]]}),
        ]

    def test_of_limits_and_of_being_active(self, key: APIKey, how: str) -> None:
        HOW[how](key, expires_at=AT, allowed_ips=["10.0.0.0/8"], rate="5/min", is_active=False)
        limits = {"expires_at": [None, "2030-01-31T12:00:00+00:00"], "allowed_ips": [[], ["10.0.0.0/8"]]}
        assert told() == [
            ("deactivated", {"is_active": [True, False]}),
            ("changed", {**limits, "rate": ["", "5/min"]}),
        ]


@pytest.mark.parametrize("how", ["save", "update", "bulk_update"])
def test_a_key_that_is_replaced_is_told_by_its_prefix(key: APIKey, how: str) -> None:
    old = key.prefix
    HOW[how](key, key=TOKEN)
    assert told() == [("changed", {"prefix": [old, TOKEN[:8]]})]
    event = AuditEvent.objects.get()
    assert event.detail == "key"
    assert TOKEN not in str(event.changes)
    assert "sha256" not in str(event.changes)


@pytest.mark.parametrize("how", [how for how in HOW if how != "over its row"])
def test_of_any_field_is_told(key: APIKey, how: str) -> None:
    """Also of those that nobody is meant to change, but which say how old a key is, or which one."""
    made, old = key.created_at.isoformat(), key.prefix
    for name, value, pair in (
        ("created_at", AT, [made, AT.isoformat()]), ("prefix", "deadbeef", [old, "deadbeef"]), ("family", 7, [None, 7]),
    ):  # fmt: skip
        HOW[how](APIKey.objects.get(), **{name: value})
        assert told()[-1] == ("changed", {name: pair})
        assert AuditEvent.objects.latest("id").detail == name


def test_what_the_database_computes_is_told_as_it_came_out(key: APIKey) -> None:
    APIKey.objects.create(name="B", scopes=[])
    AuditEvent.objects.all().delete()
    APIKey.objects.update(name=Concat(F("name"), Value("2")))
    APIKey.objects.update(rate=Case(When(name="A2", then=Value("5/min")), default=Value("6/min")))
    assert sorted(str(pair) for _, pair in told()) == sorted(
        str(pair)
        for pair in (
            {"name": ["A", "A2"]}, {"name": ["B", "B2"]}, {"rate": ["", "5/min"]}, {"rate": ["", "6/min"]},
        )
    )  # fmt: skip


@pytest.mark.parametrize("how", ["save", "save some", "asave"])
def test_so_is_what_one_copy_has_computed(key: APIKey, how: str) -> None:
    change(key, expires_at=AT)
    AuditEvent.objects.all().delete()
    HOW[how](key, name=Concat(F("name"), Value("2")), is_active=~F("is_active"), expires_at=AT + timedelta(days=1))
    HOW[how](APIKey.objects.get(), expires_at=F("expires_at") + timedelta(days=1))
    assert (APIKey.objects.get().name, APIKey.objects.get().expires_at) == ("A2", AT + timedelta(days=2))
    assert [event for event, _ in told()] == ["deactivated", "changed", "changed"]
    moments = [(AT + timedelta(days=days)).isoformat() for days in range(3)]
    assert told()[1][1] == {"name": ["A", "A2"], "expires_at": moments[:2]}
    assert told()[2][1] == {"expires_at": moments[1:]}


def test_and_what_a_new_key_has_computed() -> None:
    APIKey(name=Concat(Value("A"), Value("2"))).save()
    APIKey.objects.bulk_create([APIKey(name=Concat(Value("A"), Value("3")))])
    assert [pair["name"] for _, pair in told()] == [[None, "A2"], [None, "A3"]]


@pytest.mark.parametrize("empty", [None, {}, ""])
def test_nor_does_it_compute_an_empty_value_that_is_no_list(key: APIKey, empty: Any) -> None:
    computed: Any = Value(empty, models.JSONField())
    for name in ("scopes", "allowed_ips"):
        for write in (lambda **values: APIKey.objects.update(**values), lambda **values: change(key, **values)):
            with pytest.raises(ValidationError):
                write(**{name: computed})
        key.refresh_from_db()
    assert not told()


def test_what_is_computed_is_checked_as_well(key: APIKey) -> None:
    for make in (
        lambda: assign(key, name=Concat(F("name"), Value("\n"))).save(),
        lambda: APIKey(name=Concat(Value("A"), Value("\n"))).save(),
        lambda: APIKey.objects.bulk_create([APIKey(name=Concat(Value("A"), Value("\n")))]),
    ):
        with pytest.raises(ValidationError):
            make()
    assert [*APIKey.objects.values_list("name", flat=True)] == ["A"]
    assert not told()


class TestWhatIsAssigned:
    """A field may be given a text; the row and the event hold what it stands for."""

    @pytest.mark.parametrize("off", ["False", "0", 0, "f"])
    def test_that_is_no_true_value_deactivates(self, key: APIKey, off: Any) -> None:
        change(key, is_active=off)
        change(key, is_active="True")
        assert told() == [("deactivated", {"is_active": [True, False]}), ("activated", {"is_active": [False, True]})]
        APIKey.objects.bulk_create([APIKey(name="B", is_active=off)])
        assert told()[-1][1]["is_active"] == [None, False]

    def test_is_told_as_it_is_stored(self, key: APIKey) -> None:
        change(key, created_at="2030-01-31T12:00:00Z", replaced_by_id=str(key.pk), family="7", scopes=("users:read",))
        assert told()[0][1]["created_at"][1] == AT.isoformat()
        assert told()[0][1]["replaced_by"] == [None, key.pk]
        assert told()[0][1]["family"] == [None, 7]
        assert "scopes" not in told()[0][1]

    def test_is_no_change_if_it_is_the_same(self, key: APIKey) -> None:
        change(key, is_active="True", created_at=key.created_at.isoformat())
        assert not told()


def test_the_id_of_a_key_which_names_it_in_the_log_does_not_change(key: APIKey) -> None:
    for manager in (APIKey.objects, APIKey._base_manager):
        with pytest.raises(ValueError, match="cannot be changed"):
            manager.update(id=F("id") + 1)
    assert APIKey.objects.get().pk == key.pk


def test_the_old_value_is_that_of_the_row_and_not_what_an_old_copy_believes(key: APIKey) -> None:
    old, twin = APIKey.objects.get(), APIKey.objects.get()
    change(twin, rate="5/min")
    change(old, scopes=["*"])
    with pytest.raises(StaleKeyError):
        change(old, rate="6/min")
    assert told() == [
        ("changed", {"rate": ["", "5/min"]}),
        ("changed", {"scopes": [["users:read"], ["*"]]}),
    ]
    old.refresh_from_db()
    APIKey.objects.update(scopes=["employees:read"])
    old.delete()
    assert told()[-1][1]["scopes"] == [["employees:read"], None]


class TestALife:
    @pytest.mark.parametrize(
        "make",
        [
            lambda **values: APIKey.objects.create(**values),
            lambda **values: APIKey(**values).save(),
            lambda **values: APIKey.objects.bulk_create([APIKey(**values)]),
            lambda **values: APIKey._base_manager.bulk_create([APIKey(**values)]),
            lambda **values: APIKey.objects.get_or_create(name=values.pop("name"), defaults=values),
            lambda **values: async_to_sync(APIKey.objects.all().acreate)(**values),
        ],
    )
    def test_begins_with_what_the_key_may_do(self, make: Callable[..., Any]) -> None:
        make(name="TTS", scopes=["users:read"], expires_at=AT, allowed_ips=["10.0.0.0/8"], rate="5/min")
        assert told() == [
            (
                "created",
                {
                    "name": [None, "TTS"],
                    "is_active": [None, True],
                    "scopes": [None, ["users:read"]],
                    "expires_at": [None, "2030-01-31T12:00:00+00:00"],
                    "allowed_ips": [None, ["10.0.0.0/8"]],
                    "rate": [None, "5/min"],
                },
            )
        ]

    def test_says_that_a_key_has_no_scopes(self) -> None:
        APIKey.objects.create(name="TTS", scopes=[])
        assert told() == [("created", {"name": [None, "TTS"], "is_active": [None, True], "scopes": [None, []]})]

    @pytest.mark.parametrize(
        "end", [lambda key: key.delete(), lambda key: APIKey.objects.all().delete(), lambda key: key.rows_deleted()]
    )
    def test_ends_with_what_the_key_could_do(
        self, key: APIKey, end: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(APIKey, "rows_deleted", lambda key: APIKey._base_manager.all().delete(), raising=False)
        end(key)
        assert told() == [
            ("deleted", {"name": ["A", None], "is_active": [True, None], "scopes": [["users:read"], None]})
        ]

    def test_does_not_end_twice(self, key: APIKey) -> None:
        twin = APIKey.objects.get()
        key.delete()
        twin.delete()
        assert [event for event, _ in told()] == ["deleted"]

    def test_of_a_rotated_key_names_its_successor_and_its_end(self, key: APIKey) -> None:
        successor = key.rotate(timedelta(hours=1))
        (created, first), (rotated, second) = told()
        assert (created, rotated) == ("created", "rotated")
        assert first == {"name": [None, "A"], "is_active": [None, True], "scopes": [None, ["users:read"]]}
        key.refresh_from_db()
        assert key.expires_at is not None
        assert second == {"replaced_by": [None, successor.pk], "expires_at": [None, key.expires_at.isoformat()]}

    def test_goes_on_when_the_successor_is_deleted(self, key: APIKey) -> None:
        successor = key.rotate()
        pk = successor.pk
        AuditEvent.objects.all().delete()
        successor.delete()
        events = AuditEvent.objects.order_by("id").values_list("event", "api_key_id", "changes__replaced_by")
        assert [*events] == [("deleted", pk, None), ("changed", key.pk, [pk, None])]

    def test_shows_a_deactivation(self, key: APIKey) -> None:
        key.deactivate()
        change(key, is_active=True)
        assert told() == [("deactivated", {"is_active": [True, False]}), ("activated", {"is_active": [False, True]})]

    def test_a_request_has_no_changes(self, key: APIKey) -> None:
        Client().get("/guarded/", headers={"X-API-Key": key.key})
        assert AuditEvent.objects.get(event="used").changes is None

    def test_all_events_together_tell_what_a_key_is(self, key: APIKey) -> None:
        made = APIKey.objects.create(name="B", scopes=["users:read"], rate="5/min")
        change(made, scopes=["*"], is_active=False)
        APIKey.objects.filter(pk=made.pk).update(name="C", expires_at=AT)
        change(made, is_active=True)
        state: dict[str, Any] = {}
        for event in AuditEvent.objects.filter(api_key=made.pk).order_by("id"):
            for name, (old, new) in event.changes.items():
                assert state.get(name, old) == old
                state[name] = new
        row = APIKey.objects.get(pk=made.pk)
        assert state.pop("expires_at") == AT.isoformat()
        assert state == {name: getattr(row, name) for name in state}


class TestCommands:
    def test_what_they_change(self) -> None:
        call_command("keys_create", "TTS", "--scope", "users:read", "--rate", "5/min", verbosity=0)
        call_command("keys_rotate", "TTS", "--grace", "0", verbosity=0)
        pk = APIKey.objects.get(replaced_by=None).pk
        call_command("keys_deactivate", str(pk), "--no-input", verbosity=0)
        made = {"name", "is_active", "scopes", "rate"}
        assert [(event, {*pair}) for event, pair in told()] == [
            ("created", made), ("created", made), ("rotated", {"replaced_by", "expires_at"}),
            ("deactivated", {"is_active"}),
        ]  # fmt: skip


class TestTheAdmin:
    def test_its_forms_and_actions(self, admin_client: Client, key: APIKey) -> None:
        page = page_of(key)
        admin_client.post(page, {**form_of(admin_client.get(page)), "rate": "5/min", "scopes": ["employees:read"]})
        admin_client.post(DEACTIVATE, {"keys": key.pk})
        admin_client.post(LIST, {"action": "delete_selected", "_selected_action": key.pk, "post": "yes"})
        assert told()[:2] == [
            ("changed", {"scopes": [["users:read"], ["employees:read"]], "rate": ["", "5/min"]}),
            ("deactivated", {"is_active": [True, False]}),
        ]
        assert told()[2][1]["rate"] == ["5/min", None]
        admin_client.post(ADD, {**form_of(admin_client.get(ADD)), "name": "New", "scopes": ["users:read"]})
        assert told()[3][1]["scopes"] == [None, ["users:read"]]
        assert {*AuditEvent.objects.values_list("actor", flat=True)} == {"user: admin"}

    def test_its_pages_show_them(self, admin_client: Client, key: APIKey) -> None:
        change(key, scopes=["*"], expires_at=AT)
        for address in (LOG, page_of(key)):
            shown = text_of(admin_client.get(address))
            assert "scopes: users:read → *; expires at: none → 2030-01-31 12:00 UTC" in shown
        page = text_of(admin_client.get(f"{LOG}{AuditEvent.objects.get().pk}/change/"))
        assert '<th scope="row">scopes</th><td>users:read</td><td>*</td>' in page

    @pytest.mark.matrix
    def test_an_event_that_holds_something_else_is_shown_without(self, admin_client: Client, key: APIKey) -> None:
        others: list[Any] = [[], "text", 7, {"scopes": 7}, {"scopes": [1]}, {"x": [[{}], {"y": None}]}]
        for wrong in others:
            AuditEvent.objects.all().delete()
            event = AuditEvent.objects.create(at=AT, event="changed", detail="scopes", api_key=key, changes=wrong)
            for address in (LOG, page_of(key), f"{LOG}{event.pk}/change/"):
                assert admin_client.get(address).status_code == 200

    def test_its_exports_hold_them(self, admin_client: Client, key: APIKey) -> None:
        change(key, name='"é, "', scopes=["*"])
        expected = {"name": ["A", '"é, "'], "scopes": [["users:read"], ["*"]]}
        assert json.loads(body_of(admin_client, f"{LOG}export/jsonl/"))["changes"] == expected
        (row,) = csv.DictReader(body_of(admin_client, f"{LOG}export/csv/").splitlines(keepends=True))
        assert json.loads(row["changes"]) == expected


def test_receivers_hear_of_them(key: APIKey, django_capture_on_commit_callbacks: Any) -> None:
    heard: list[Any] = []

    def hear(*, changes: Any, **kwargs: Any) -> None:
        heard.append(changes)

    for signal in (signals.key_changed, signals.key_life_cycle):
        signal.connect(hear)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            change(key, scopes=["*"])
    finally:
        for signal in (signals.key_changed, signals.key_life_cycle):
            signal.disconnect(hear)
    assert heard == [{"scopes": [["users:read"], ["*"]]}] * 2


class Odd:
    def __str__(self) -> str:
        raise RuntimeError


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]
    """As such packages have one: whoever reads the database does not see the text."""


@isolate_apps("keys")
def model_of_a_project() -> type[models.Model]:
    """Return a model with fields that a project's subclass might have."""

    class Strange(models.Model):
        text = models.TextField()
        webhook_token = models.TextField()
        notes = EncryptedTextField()
        decimal = models.DecimalField(max_digits=5, decimal_places=2)
        number = models.FloatField()
        day = models.DateField()
        data = models.JSONField()
        raw = models.BinaryField()

        class Meta:
            app_label = "keys"

        def __str__(self) -> str:
            return ""

    return Strange


Strange = model_of_a_project()


class TestValues:
    """Any value gets into a row of the log: as JSON, bounded, escaped, without the key."""

    @pytest.mark.parametrize(
        ("name", "value", "written"),
        [
            ("text", "a\x00\x1b[31m\ud800\u202e", "a\\x00\\x1b[31m\\ud800\\u202e"),
            ("text", "x" * 10_000, "x" * 4096 + "…"),
            ("webhook_token", "of another service", "********"),
            ("notes", "kept from those who read the database", "********"),
            ("number", float("nan"), "nan"),
            ("number", 1.5, 1.5),
            ("day", datetime(2030, 1, 31, tzinfo=UTC).date(), "2030-01-31"),
            ("raw", b"\x00\xff", "AP8="),
            ("data", {"a\n": [1, None, {"b": AT.date()}]}, {"a\\n": [1, None, {"b": "2030-01-31"}]}),
            ("data", {"a": "x" * 5000}, '{"a": "' + "x" * 4089 + "…"),
            ("text", Odd(), "(Odd)"),
        ],
        ids=range(11),
    )
    def test_are_written(self, key: APIKey, name: str, value: Any, written: Any) -> None:
        found = changes.between(Strange, None, {name: value}, [name])
        assert found == {name: [None, written]}
        key.record("changed", changed=found, using="default")
        assert AuditEvent.objects.get().changes == found

    def test_a_long_list_is_cut_and_says_so(self, key: APIKey) -> None:
        scopes = [f"thing{number}:read" for number in range(10_000)]
        assert len(json.dumps(scopes)) > 100_000
        APIKey._base_manager.update(scopes=scopes)
        kept = AuditEvent.objects.get().changes["scopes"][1]
        assert kept[:2] == ["thing0:read", "thing1:read"]
        assert kept[-1] == f"… {10_000 - len(kept) + 1} more"
        assert len(json.dumps(kept)) < 5000

    def test_a_deep_one_is_cut(self) -> None:
        deep: Any = []
        for _ in range(500):
            deep = [deep]
        assert "[" in str(changes.between(Strange, None, {"data": deep}, ["data"])["data"][1])

    def test_the_key_itself_is_masked_wherever_it_stands(self, key: APIKey) -> None:
        secret = str(key.key)
        # Without the check that refuses it.
        APIKey.rows.filter(pk=key.pk).update(name=f"mine: {secret}, not {TOKEN}")
        assert AuditEvent.objects.get().changes["name"] == ["A", f"mine: ********, not {TOKEN}"]

    def test_a_value_that_a_field_cannot_read_is_named_by_its_type(self) -> None:
        assert changes.between(Strange, None, {"decimal": SimpleNamespace()}, ["decimal"])["decimal"][1]
