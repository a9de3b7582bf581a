"""`keys_import`: what cannot be taken over is counted and said, and mistakes are told in a sentence."""

from typing import Any

import pytest
from pytest_django import Settings
from rest_framework_api_key.models import APIKey as OtherAPIKey

from keys.models import APIKey
from tests.support.commands import run
from tests.support.other_packages import api_key, call, knox

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.support.other_packages")]

PBKDF2 = "pbkdf2_sha256$260000$salt$hash"


class TestWhatIsNot:
    def test_a_slow_hash_is_counted_and_said(self) -> None:
        api_key()
        for name in ["B", "C"]:
            made = OtherAPIKey.objects.create_key(name=name)[0]
            OtherAPIKey.objects.filter(pk=made.pk).update(hashed_key=PBKDF2)
        said = run("keys_import", "api-key")
        assert said.status == 1
        assert "1 imported" in said.out
        assert "2 cannot be carried over: hashed with pbkdf2_sha256" in said.out
        assert APIKey.objects.count() == 1

    @pytest.mark.parametrize(
        "options",
        [
            # As long as the right one, and another.
            {"SECURE_HASH_ALGORITHM": "hashlib.sha3_512"},
            {"AUTH_TOKEN_CHARACTER_LENGTH": 130},
        ],
    )
    def test_knox_with_settings_that_make_other_digests(self, settings: Settings, options: dict[str, Any]) -> None:
        settings.REST_KNOX = options
        knox()
        said = run("keys_import", "knox")
        assert said.status == 1
        assert "1 cannot be carried over" in said.out
        assert not APIKey.objects.exists()

    @pytest.mark.parametrize(
        "options",
        [
            {"TOKEN_PREFIX": "auth_live_"},
            {"AUTH_TOKEN_CHARACTER_LENGTH": 40},
            {"SECURE_HASH_ALGORITHM": "hashlib.sha256"},
        ],
    )
    def test_knox_with_other_settings_is(self, settings: Settings, options: dict[str, Any]) -> None:
        settings.REST_KNOX = options
        authorization = knox()
        assert run("keys_import", "knox", "--scope", "users:read").status == 0
        assert call("/new/", authorization) == 200

    @pytest.mark.parametrize(("length", "status"), [(31, 0), (120, 1)])
    def test_api_keys_of_another_length_come_if_a_header_takes_them(
        self, monkeypatch: pytest.MonkeyPatch, length: int, status: int
    ) -> None:
        monkeypatch.setattr(OtherAPIKey.objects.key_generator, "secret_key_length", length)
        authorization = api_key()
        assert run("keys_import", "api-key", "--scope", "users:read").status == status
        assert call("/new/", authorization) == (401 if status else 200)

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ("authtoken", ["The user", '"Token"', "authtoken_token"]),
            ("knox", ["The user", '"Token"', "AUTO_REFRESH"]),
            ("api-key", ["API_KEY_CUSTOM_HEADER", "permission"]),
        ],
    )
    def test_what_a_key_loses_is_said(self, source: str, words: list[str]) -> None:
        said = run("keys_import", source, "--dry-run").out
        assert [word for word in words if word not in said] == []


class TestMistakes:
    def test_a_package_that_is_not_installed(self, settings: Settings) -> None:
        settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "knox"]
        said = run("keys_import", "knox")
        assert said.status == 1
        assert "knox.AuthToken" in said.err
        assert "INSTALLED_APPS" in said.err

    @pytest.mark.parametrize("model", ["auth.User", "nothing", "no.Such"])
    def test_a_model_that_is_another(self, model: str) -> None:
        said = run("keys_import", "api-key", "--model", model)
        assert said.status == 1
        assert model in said.err

    def test_a_scope_that_is_not_registered(self) -> None:
        api_key()
        for options in [["--dry-run"], []]:
            said = run("keys_import", "api-key", "--scope", "users:raed", *options)
            assert said.status == 1
            assert "users:raed" in said.err
        assert not APIKey.objects.exists()
