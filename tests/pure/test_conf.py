"""The app's settings, and who acts."""

import threading
from datetime import timedelta

import pytest
from django.core.signals import setting_changed
from django.test import override_settings
from pytest_django.fixtures import Settings

from keys import actor
from keys.conf import conf


def test_defaults_hold_where_the_settings_are_silent() -> None:
    with override_settings(KEYS={}):
        assert conf.SCOPES == {}
        assert conf.DEFAULT_SCOPES == []
        assert (conf.PREFIX, conf.TRUSTED_PROXIES) == ("", 0)
        assert conf.AUDIT_FAIL_OPEN is False
        assert conf.RATE_FAIL_OPEN is False
        assert timedelta(days=7) == conf.ROTATION_GRACE


def test_a_project_without_the_setting_has_the_defaults(settings: Settings) -> None:
    del settings.KEYS
    setting_changed.send(sender=None, setting="KEYS", value=None, enter=True)
    try:
        assert conf.SCOPES == {}
    finally:
        setting_changed.send(sender=None, setting="KEYS", value=None, enter=False)


def test_settings_are_followed_when_a_test_changes_them() -> None:
    assert conf.PREFIX == ""
    with override_settings(KEYS={"PREFIX": "auth_live_"}):
        assert conf.PREFIX == "auth_live_"
        with override_settings(KEYS={"TRUSTED_PROXIES": 2}):
            assert (conf.PREFIX, conf.TRUSTED_PROXIES) == ("", 2)
        assert conf.PREFIX == "auth_live_"
    assert conf.PREFIX == ""


def test_another_setting_is_none_of_its_business() -> None:
    with override_settings(KEYS={"PREFIX": "a_"}), override_settings(LANGUAGE_CODE="de"):
        assert conf.PREFIX == "a_"


def test_an_option_that_does_not_exist_is_an_attribute_error() -> None:
    with override_settings(KEYS={"PREFIXES": "a_"}), pytest.raises(AttributeError):
        getattr(conf, "PREFIXES")  # noqa: B009
    with pytest.raises(AttributeError):
        getattr(conf, "NOTHING")  # noqa: B009


class TestActor:
    def test_is_nobody_until_somebody_is_named(self) -> None:
        assert actor.current() == ""
        with actor.acting_as("user: alice"):
            assert actor.current() == "user: alice"
            with actor.acting_as("command line: root"):
                assert actor.current() == "command line: root"
            assert actor.current() == "user: alice"
        assert actor.current() == ""

    def test_is_forgotten_when_the_change_fails(self) -> None:
        with pytest.raises(RuntimeError), actor.acting_as("user: alice"):
            raise RuntimeError
        assert actor.current() == ""

    def test_is_not_shared_with_another_thread(self) -> None:
        seen: list[str] = []
        with actor.acting_as("user: alice"):
            thread = threading.Thread(target=lambda: seen.append(actor.current()))
            thread.start()
            thread.join()
        assert seen == [""]
