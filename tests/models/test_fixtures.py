"""Fixtures hold digests, and put every key back to work."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.core import serializers
from django.core.management import call_command
from django.forms import model_to_dict
from django.utils import timezone

from keys import tokens
from keys.models import APIKey, AuditEvent, KeyOrigin
from tests.support.callers import opens
from tests.support.commands import run
from tests.support.keys import in_table

pytestmark = pytest.mark.django_db

TOKEN = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40


class TestFixtures:
    @pytest.mark.parametrize("form", ["json", "jsonl", "xml"])
    def test_dumpdata_and_loaddata_keep_every_key_at_work(self, tmp_path: Path, form: str) -> None:
        old = APIKey.objects.create(name="A <&> é", scopes=["users:read"], allowed_ips=["127.0.0.0/8"], rate="1000/min")
        new = old.rotate()
        typed = APIKey.objects.create(name="typed", key="hunter2-hunter2", scopes=[])
        # JSON keeps milliseconds.
        APIKey.objects.update(created_at=datetime(2026, 1, 1, tzinfo=UTC))
        APIKey.objects.filter(pk=old.pk).update(expires_at=timezone.now().replace(microsecond=0) + timedelta(days=1))
        before = list(APIKey.objects.order_by("pk").values())
        fixture = tmp_path / f"keys.{form}"
        call_command("dumpdata", "keys.APIKey", format=form, output=str(fixture), verbosity=0)
        APIKey.objects.all().delete()
        assert not opens(new.key)
        call_command("loaddata", str(fixture), verbosity=0)

        assert list(APIKey.objects.order_by("pk").values()) == before
        assert [opens(token) for token in (old.key, new.key, "hunter2-hunter2")] == [True, True, True]
        for token in (old.key, new.key, typed.key):
            assert token not in fixture.read_text()

    def test_the_instance_that_made_the_key_is_dumped_without_it(self) -> None:
        key = APIKey(name="A", key=TOKEN)
        for saved in (False, True):
            if saved:
                key.save()
            for form in ("python", "json", "jsonl", "xml"):
                dumped = serializers.serialize(form, [key])
                assert TOKEN not in str(dumped)
                assert tokens.digest(TOKEN) in str(dumped)
            assert model_to_dict(key).get("key") is None

    def test_a_fixture_written_by_hand_may_hold_a_token(self, tmp_path: Path) -> None:
        fields = {"name": "A", "key": TOKEN, "created_at": "2026-01-01T00:00:00Z", "scopes": []}
        fixture = tmp_path / "keys.json"
        fixture.write_text(json.dumps([{"model": "keys.apikey", "pk": 1, "fields": fields}]))
        call_command("loaddata", str(fixture), verbosity=0)
        assert opens(TOKEN)
        assert not in_table(TOKEN)


class TestOrigins:
    """Where keys came from: whoever dumps, prunes or looks into the admin changes nothing of it."""

    @pytest.fixture
    def origins(self) -> list[dict[str, object]]:
        here, gone = (APIKey.objects.create(name=name) for name in ("here", "gone"))
        at = datetime(2026, 1, 1, tzinfo=UTC)
        for ref, key in (("7", here), ("Ä", gone)):
            KeyOrigin.objects.create(source="old.Token", ref=ref, api_key=key, at=at)
        gone.delete()
        return list(KeyOrigin.objects.order_by("pk").values())

    @pytest.mark.parametrize("natural", [False, True])
    @pytest.mark.parametrize("models", [["keys"], ["keys.KeyOrigin", "keys.APIKey"]])
    def test_dumpdata_and_loaddata_keep_them(
        self, tmp_path: Path, origins: list[dict[str, object]], models: list[str], natural: bool
    ) -> None:
        fixture, options = tmp_path / "keys.json", {"natural_foreign": natural, "natural_primary": natural}
        call_command("dumpdata", *models, output=str(fixture), verbosity=0, **options)
        KeyOrigin.objects.all().delete()
        APIKey.objects.all().delete()
        call_command("loaddata", str(fixture), verbosity=0)
        loaded = list(KeyOrigin.objects.order_by("pk").values())
        # Who asks for natural keys wants no ids of rows, and these have none.
        assert [{**row, "id": 0} for row in loaded] == [{**row, "id": 0} for row in origins]

    def test_retention_leaves_them(self, origins: list[dict[str, object]]) -> None:
        AuditEvent.objects.update(at=timezone.now() - timedelta(days=900))
        assert run("keys_prune", "--older-than", "1d", "--life-cycle").status == 0
        assert list(KeyOrigin.objects.order_by("pk").values()) == origins

    def test_nobody_changes_them_in_the_admin(self) -> None:
        assert not admin.site.is_registered(KeyOrigin)
        assert not Permission.objects.filter(content_type__model="keyorigin").exists()
