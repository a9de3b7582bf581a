"""`APIKey`: what can be made, when it is accepted, and the ways to end it."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client, override_settings
from django.utils import timezone

from keys.models import APIKey, AuditEvent
from tests.support.processes import Shell

pytestmark = pytest.mark.django_db

SHELL_LINES = """
from keys.models import APIKey
key = APIKey.objects.create(name="TTS-Backend")
print(key.key)                                                   # 40 lower-case hex characters
APIKey.objects.filter(key=key.key, is_active=True).first()       # finds it
print(APIKey.objects.filter(key=key.key, is_active=True).first() == key)
"""


# Values that are empty, too, and no lists.
EMPTY: tuple[Any, ...] = ("", {}, 0)


def answer(key: str, address: str = "127.0.0.1", url: str = "/guarded/") -> int:
    return Client(REMOTE_ADDR=address).get(url, headers={"X-API-Key": key}).status_code


@pytest.mark.matrix
@pytest.mark.django_db(transaction=True)
def test_the_lines_that_people_know_work_in_the_shell() -> None:
    token, found = Shell(SHELL_LINES).output().split()
    assert re.fullmatch("[0-9a-f]{40}", token)
    assert found == "True"
    assert answer(token) == answer(token, url="/scoped/") == 200
    token = Shell(SHELL_LINES + "key.is_active = False; key.save()").output().split()[0]
    assert answer(token) == 401
    steps = list(AuditEvent.objects.steps().order_by("id").values_list("event", "actor"))
    assert [event for event, _ in steps] == ["created", "created", "deactivated"]
    assert all(re.fullmatch(r"command line: \S+ \(shell\)", actor) for _, actor in steps)


class TestMaking:
    def test_a_key_has_the_defaults_of_the_project(self) -> None:
        key = APIKey.objects.create(name="A")
        assert (key.is_active, key.scopes, key.allowed_ips) == (True, ["users:read", "employees:read"], [])
        assert (key.expires_at, key.rate, key.replaced_by, key.last_used_at) == (None, "", None, None)
        assert timezone.now() - key.created_at < timedelta(minutes=1)
        assert str(key) == f"A ({key.key[:8]})"

    def test_each_key_has_a_list_of_its_own(self) -> None:
        APIKey.objects.create(name="A").scopes.append("tracking:write")
        assert APIKey.objects.create(name="B").scopes == ["users:read", "employees:read"]

    def test_an_explicit_empty_list_stays_empty(self) -> None:
        key = APIKey.objects.create(name="A", scopes=[])
        assert APIKey.objects.get(pk=key.pk).scopes == []
        assert (answer(key.key), answer(key.key, url="/scoped/")) == (200, 403)

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            (
                {"scopes": ["users:write"]},
                r"“users:write” is not registered in KEYS\[\"SCOPES\"\]. Registered: users:read",
            ),
            ({"scopes": ["users"]}, "“users” is not a scope: write resource:action"),
            ({"scopes": "users:read"}, "Give a list of strings"),
            ({"scopes": [["users:read"]]}, "Give a list of strings"),
            ({"allowed_ips": ["10.0.0.0/8", "office"]}, "“office” is not an IPv4 or IPv6 network"),
            ({"allowed_ips": ["10.0.0.1/8"]}, "did you mean 10.0.0.0/8"),
            *(
                ({"allowed_ips": ["10.0.0.0/8", nobody]}, f"“{nobody}” is nobody's address; did you mean {meant}?")
                for nobody, meant in (
                    ("0.0.0.0", "0.0.0.0/0"),
                    ("0.0.0.0/32", "0.0.0.0/0"),
                    ("::ffff:0.0.0.0", "0.0.0.0/0"),
                    ("::", "::/0"),
                    ("0:0:0:0:0:0:0:0/128", "::/0"),
                )
            ),
            ({"allowed_ips": "10.0.0.0/8"}, "Give a list of strings"),
            *(({name: empty}, "Give a list of strings") for name in ("allowed_ips", "scopes") for empty in EMPTY),
            *(({name: None}, "cannot be null") for name in ("allowed_ips", "scopes")),
            ({"rate": "fast"}, "“fast” is not a rate"),
            ({"rate": "0/min"}, "“0/min” is not a rate"),
            ({"rate": "100/min\n"}, "is not a rate"),
            ({"name": ""}, "cannot be blank"),
            ({"name": "x" * 101}, "at most 100 characters"),
            ({"expires_at": "tomorrow"}, "invalid format"),
        ],
        ids=str,
    )
    def test_what_a_key_must_not_hold_is_refused_wherever_it_is_written(
        self, values: dict[str, Any], says: str
    ) -> None:
        key = APIKey.objects.create(name="A")
        for name, value in values.items():
            setattr(key, name, value)
        for write in (
            lambda: APIKey.objects.create(**{"name": "B", **values}),
            lambda: APIKey.objects.bulk_create([APIKey(name="B"), APIKey(**{"name": "C", **values})]),
            lambda: APIKey.objects.update_or_create(name="A", defaults=values),
            lambda: APIKey.objects.update(**values),
            lambda: APIKey.objects.bulk_update([key], [*values]),
            key.save,
            key.full_clean,
        ):
            with pytest.raises(ValidationError, match=says):
                write()
        assert list(APIKey.objects.values_list("name", "rate", "allowed_ips")) == [("A", "", [])]

    def test_wildcards_are_scopes_where_their_resource_is_registered(self) -> None:
        assert APIKey.objects.create(name="A", scopes=["users:*", "*"]).scopes == ["users:*", "*"]
        with pytest.raises(ValidationError, match="mail:"):
            APIKey.objects.create(name="A", scopes=["mail:*"])

    def test_without_a_registry_any_well_formed_scope_goes(self) -> None:
        with override_settings(KEYS={}):
            assert APIKey.objects.create(name="A").scopes == []
            assert APIKey.objects.create(name="A", scopes=["mail:send"]).scopes == ["mail:send"]
            with pytest.raises(ValidationError):
                APIKey.objects.create(name="A", scopes=["send mail"])

    def test_a_default_scope_that_is_not_registered_makes_no_key(self) -> None:
        with override_settings(KEYS={"SCOPES": {"a:b": ""}, "DEFAULT_SCOPES": ["a:c"]}), pytest.raises(ValidationError):
            APIKey.objects.create(name="A")

    def test_a_scope_that_left_the_registry_does_not_stand_in_the_way_of_other_changes(self) -> None:
        key = APIKey.objects.create(name="A", scopes=["users:read"])
        with override_settings(KEYS={"SCOPES": {"mail:send": ""}}):
            key.name = "B"
            key.save()
            APIKey.objects.filter(pk=key.pk).update(rate="1000/min")
            key.deactivate()
        key.refresh_from_db()
        assert (key.name, key.rate, key.is_active, key.scopes) == ("B", "1000/min", False, ["users:read"])

    @pytest.mark.parametrize("options", [{"ignore_conflicts": True}, {"update_conflicts": True}])
    def test_keys_are_not_made_or_not_made_as_it_happens(self, options: Any) -> None:
        with pytest.raises(ValueError, match="conflicts"):
            APIKey.objects.bulk_create([APIKey(name="A")], **options)


class TestExpiry:
    MOMENT = datetime(2030, 1, 1, tzinfo=UTC)

    def test_refuses_from_the_very_moment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        key = APIKey.objects.create(name="A", expires_at=self.MOMENT)
        for offset, status in ((-1, 200), (0, 401), (1, 401)):
            now = self.MOMENT + timedelta(microseconds=offset)
            monkeypatch.setattr(timezone, "now", lambda now=now: now)
            assert answer(key.key) == status
            assert key.has_expired == (status == 401)
        assert AuditEvent.objects.filter(event="refused").first().reason == "expired"

    def test_needs_no_job(self) -> None:
        key = APIKey.objects.create(name="A", expires_at=timezone.now() - timedelta(seconds=1))
        assert answer(key.key) == 401
        key.expires_at = timezone.now() + timedelta(hours=1)
        key.save()
        assert answer(key.key) == 200

    def test_may_be_given_as_text(self) -> None:
        key = APIKey.objects.create(name="A", expires_at="2030-01-01T00:00:00Z")
        assert key.expires_at == self.MOMENT
        key.expires_at = None
        key.save()
        assert answer(key.key) == 200


@pytest.mark.parametrize(
    ("networks", "address", "status"),
    [
        ([], "203.0.113.9", 200),
        (["10.0.0.0/8"], "10.1.2.3", 200),
        (["10.0.0.0/8"], "::ffff:10.1.2.3", 200),
        (["::ffff:10.0.0.0/104"], "10.1.2.3", 200),
        (["192.0.2.0/24", "2001:db8::/32"], "2001:db8::1", 200),
        (["10.0.0.0/8"], "11.0.0.1", 401),
        (["10.0.0.0/8"], "2001:db8::1", 401),
        (["10.0.0.0/8"], "", 401),
        (["10.0.0.0/8"], "unix:", 401),
    ],
)
def test_a_key_is_used_from_its_networks_alone(networks: list[str], address: str, status: int) -> None:
    key = APIKey.objects.create(name="A", allowed_ips=networks)
    assert answer(key.key, address) == status


@pytest.mark.parametrize("column", ["allowed_ips", "scopes"])
@pytest.mark.parametrize(
    "value", ['"*"', '"users:read"', '"10.0.0.0/8"', "7", "null", '{"*": 1}', '["office"]', "[7, null]"]
)
def test_what_raw_sql_wrote_past_the_model_opens_and_breaks_nothing(column: str, value: str) -> None:
    key = APIKey.objects.create(name="A")
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE keys_apikey SET {column} = %s", [value])
    status = answer(key.key, "10.0.0.1", "/scoped/")
    assert status == {"allowed_ips": 401, "scopes": 403}[column]


class TestState:
    @pytest.mark.parametrize(
        ("values", "state"),
        [
            ({}, "active"),
            ({"expires_at": timedelta(days=15)}, "active"),
            ({"expires_at": timedelta(days=13)}, "expiring"),
            ({"expires_at": timedelta(0)}, "expired"),
            ({"is_active": False}, "inactive"),
            ({"is_active": False, "expires_at": timedelta(0)}, "inactive"),
        ],
        ids=str,
    )
    def test_is_named_for_people(self, values: dict[str, Any], state: str) -> None:
        if "expires_at" in values:
            values = {**values, "expires_at": timezone.now() + values["expires_at"]}
        assert APIKey.objects.create(name="A", **values).state == state

    def test_of_a_replaced_key(self) -> None:
        key = APIKey.objects.create(name="A")
        key.rotate()
        assert key.state == "retiring"
        APIKey.objects.filter(pk=key.pk).update(expires_at=timezone.now())
        key.refresh_from_db()
        assert key.state == "expired"


def test_last_use_is_read_from_the_log() -> None:
    key, unused = APIKey.objects.create(name="A"), APIKey.objects.create(name="B", is_active=False)
    answer(key.key)
    answer(key.key)
    answer(unused.key)
    last = AuditEvent.objects.filter(event="used").latest("at").at
    assert (key.last_used_at, unused.last_used_at) == (last, None)
    keys: Any = APIKey.objects.with_last_used()
    assert {key.name: key.last_used for key in keys} == {"A": last, "B": None}
