"""The upgrade of a project that runs the system of before: its table, its rows, its entry in `django_migrations`."""

import secrets
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import IntegrityError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import override_settings

from keys import tokens
from keys.models import APIKey, AuditEvent
from tests.support.callers import opens
from tests.support.old_system import KEY, NORMAL, OLD_KEYS, TYPED, UPPER, insert, make_old_system, table
from tests.support.tables import execute, migrate

pytestmark = [pytest.mark.matrix, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("tables_put_back")]


class TestUpgrade:
    @pytest.fixture(autouse=True)
    def old_system(self) -> None:
        make_old_system()

    def test_every_client_goes_on_working_and_no_plain_key_is_left(self) -> None:
        assert NORMAL in table()
        migrate()
        assert {name: opens(key, "/scoped/") for name, key in OLD_KEYS.items()} == dict.fromkeys(OLD_KEYS, True)
        assert not [key for key in OLD_KEYS.values() if key in table()]
        assert not opens(UPPER.lower())

    def test_rows_keep_what_they_had(self) -> None:
        migrate()
        for key in APIKey.objects.all():
            old = OLD_KEYS[key.name]
            assert key.key == tokens.digest(old)
            assert key.created_at == datetime(2020, 1, 1, tzinfo=UTC)
            assert (key.is_active, key.scopes) == (True, ["users:read", "employees:read"])
            assert (key.expires_at, key.allowed_ips, key.rate, key.replaced_by, key.family) == (
                None,
                [],
                "",
                None,
                None,
            )
            assert (key.prefix, key.typed_by_hand) == (("", True) if old == TYPED else (old[:8], False))

    def test_rows_get_the_default_scopes_of_the_project(self) -> None:
        with override_settings(KEYS={"DEFAULT_SCOPES": ["a:b"]}):
            migrate()
        assert {tuple(key.scopes) for key in APIKey.objects.all()} == {("a:b",)}

    def test_an_inactive_key_stays_so(self) -> None:
        insert(("inactive", "c" * 40), is_active=False)
        migrate()
        assert not opens("c" * 40)
        assert AuditEvent.objects.get().reason == "inactive"

    def test_an_empty_key_is_deactivated(self) -> None:
        insert(("empty", ""))
        migrate()
        assert not APIKey.objects.get(name="empty").is_active
        assert not opens("")
        assert APIKey.objects.filter(is_active=True).count() == len(OLD_KEYS)

    def test_there_may_be_many_rows_and_any_id(self) -> None:
        many = [secrets.token_hex(20) for _ in range(1200)]
        insert(*((f"key {number}", key) for number, key in enumerate(many)))
        execute("UPDATE keys_apikey SET id = -id WHERE name = %s", ["key 7"])
        execute("UPDATE keys_apikey SET id = 0 WHERE name = %s", ["key 8"])
        migrate()
        assert set(APIKey.objects.values_list("key", flat=True)) == {
            tokens.digest(key) for key in (*many, *OLD_KEYS.values())
        }
        assert [opens(many[number]) for number in (0, 7, 8, 499, 500, 1199)] == [True] * 6

    def test_new_keys_can_be_made_and_old_ones_rotated(self) -> None:
        migrate()
        assert opens(APIKey.objects.create(name="new").key)
        assert opens(APIKey.objects.get(name="normal").rotate().key)
        assert opens(NORMAL)
        with pytest.raises(IntegrityError):
            APIKey.objects.create(name="twin", key=NORMAL)

    def test_running_it_again_changes_nothing(self) -> None:
        migrate()
        before = table()
        migrate()
        assert table() == before
        assert opens(NORMAL)

    @pytest.mark.parametrize("digests", [0, 2])
    def test_an_interruption_leaves_what_can_be_migrated_again(
        self, monkeypatch: pytest.MonkeyPatch, digests: int
    ) -> None:
        made: list[str] = []

        def until_ctrl_c(token: str, digest: Any = tokens.digest) -> str:
            if len(made) == digests:
                raise KeyboardInterrupt
            made.append(token)
            return str(digest(token))

        monkeypatch.setattr(tokens, "digest", until_ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            migrate()
        monkeypatch.undo()
        assert not MigrationRecorder.Migration.objects.filter(app="keys", name="0003_hash_keys").exists()
        assert all(repr(key)[1:-1] in table() for key in OLD_KEYS.values())
        migrate()
        assert all(opens(key) for key in OLD_KEYS.values())

    def test_rows_that_were_hashed_before_an_interruption_are_not_hashed_twice(self) -> None:
        """What a database without transactions around its DDL is left with."""
        migrate("0002")
        if connection.vendor == "postgresql":
            execute("ALTER TABLE keys_apikey ALTER COLUMN key TYPE varchar(160)")
        elif connection.vendor == "mysql":
            execute("ALTER TABLE keys_apikey MODIFY `key` varchar(160) NOT NULL")
        execute(
            f"UPDATE keys_apikey SET {KEY} = %s, prefix = %s WHERE name = 'normal'", [tokens.digest(NORMAL), NORMAL[:8]]
        )
        migrate()
        assert all(opens(key) for key in OLD_KEYS.values())
        assert APIKey.objects.get(name="normal").prefix == NORMAL[:8]
