"""System checks of `settings.KEYS`. Each test shows the message, and that it goes with its cause."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.checks import run_checks
from django.utils.translation import gettext_lazy
from pytest_django import Settings

from keys.conf import DEFAULTS
from tests.support.commands import found

NONSENSE = [
    None, True, False, 0, -1, 1.5, float("nan"), 10**40, "", "nonsense", "é", "x" * 999, b"bytes", timedelta(-1),
    [], [None], [[]], (1,), set(), range(3), iter([]), {}, {1: 2}, {"a": []}, {(): None}, object(), object, lambda: 1,
]  # fmt: skip
SCOPES = {"users:read": "Read the details of users.", "tracking:write": "Send clicks."}


@pytest.fixture(autouse=True)
def no_views(settings: Settings) -> None:
    """Leave out the views, of which each run of the checks would read all."""
    settings.ROOT_URLCONF = ()


@pytest.mark.parametrize("keys", [None, "SCOPES", ["SCOPES"], 1, {"SCOPES"}])
def test_keys_is_a_dictionary(settings: Settings, keys: Any) -> None:
    settings.KEYS = keys
    assert found("keys.E001")

    settings.KEYS = {}
    assert not found("keys.E001")
    del settings.KEYS
    assert not found("keys.E001")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("SCOPE", "SCOPES"), ("prefix", "PREFIX"), ("AUDIT_FAIL_OPENED", "AUDIT_FAIL_OPEN"), ("XYZ", "DEFAULT_SCOPES")],
)
def test_an_unknown_option_is_told_with_the_nearest_known_one(settings: Settings, name: str, nearest: str) -> None:
    settings.KEYS = {name: DEFAULTS.get(name.upper())}
    (message,) = found("keys.E002")
    assert repr(name) in message
    assert nearest in message.partition("HINT")[2]

    settings.KEYS = dict(DEFAULTS)
    assert not found("keys.E002")


@pytest.mark.parametrize(
    "scopes",
    [["users:read"], None, {"users": "no action"}, {"users read:": "a blank"}, {1: "one"}, {"users:read": None},
     {"users:read": 3}, {"users:read:all": "two colons"}],
)  # fmt: skip
def test_the_registry_maps_scopes_to_sentences(settings: Settings, scopes: Any) -> None:
    settings.KEYS = {"SCOPES": scopes}
    assert found("keys.E003")

    settings.KEYS = {"SCOPES": {**SCOPES, "users:*": gettext_lazy("Everything about users.")}}
    assert not found("keys.E003")


@pytest.mark.parametrize(
    ("defaults", "says"),
    [("users:read", "list"), (None, "list"), ({"users:read"}, "list"), (["users"], "'users'"), ([3], "3"),
     (["users:raed"], "Did you mean users:read?"), (["employees:*"], "'employees:*'")],
)  # fmt: skip
def test_the_default_scopes_are_registered(settings: Settings, defaults: Any, says: str) -> None:
    settings.KEYS = {"SCOPES": SCOPES, "DEFAULT_SCOPES": defaults}
    (message,) = found("keys.E004")
    assert says in message

    settings.KEYS = {"SCOPES": SCOPES, "DEFAULT_SCOPES": ("users:read", "tracking:*", "*")}
    assert not found("keys.E004")


def test_without_a_registry_any_well_formed_default_scope_goes(settings: Settings) -> None:
    settings.KEYS = {"DEFAULT_SCOPES": ["users:read", "users"]}
    (message,) = found("keys.E004")
    assert "'users'" in message


@pytest.mark.parametrize("prefix", [None, 7, b"live_", "auth live_", "auth,live_", "é_", "a\n", "\x00", "x" * 89, " "])
def test_a_prefix_can_begin_a_key(settings: Settings, prefix: Any) -> None:
    settings.KEYS = {"PREFIX": prefix}
    assert found("keys.E005")


@pytest.mark.parametrize("prefix", ["", "auth_live_", "cafe", "x" * 88, '!#"~'])
def test_a_prefix_that_a_scanner_can_find(settings: Settings, prefix: str) -> None:
    settings.KEYS = {"PREFIX": prefix}
    assert not found("keys.E005")


@pytest.mark.parametrize("number", [-1, True, False, "1", 1.0, None])
def test_trusted_proxies_are_counted(settings: Settings, number: Any) -> None:
    settings.KEYS = {"TRUSTED_PROXIES": number}
    assert found("keys.E006")

    settings.KEYS = {"TRUSTED_PROXIES": 2}
    assert not found("keys.E006")


@pytest.mark.parametrize("name", [name for name, default in DEFAULTS.items() if isinstance(default, bool)])
@pytest.mark.parametrize("value", [0, 1, "false", None])
def test_a_switch_is_on_or_off(settings: Settings, name: str, value: Any) -> None:
    settings.KEYS = {name: value}
    (message,) = found("keys.E007")
    assert name in message

    settings.KEYS = {name: True}
    assert not found("keys.E007")


@pytest.mark.parametrize("grace", [7, "7 days", None, timedelta(seconds=-1)])
def test_the_grace_of_a_rotation_is_a_length_of_time(settings: Settings, grace: Any) -> None:
    settings.KEYS = {"ROTATION_GRACE": grace}
    (message,) = found("keys.E008")
    assert 'KEYS["ROTATION_GRACE"]' in message

    settings.KEYS = {"ROTATION_GRACE": timedelta(0)}
    assert not found("keys.E008")


@pytest.mark.matrix
@pytest.mark.parametrize("value", NONSENSE, ids=lambda value: type(value).__name__)
def test_nonsense_of_any_type_is_an_error_and_no_crash(settings: Settings, value: Any) -> None:
    settings.ROOT_URLCONF = "tests.urls"  # whose checks meet the options too
    settings.KEYS = value
    assert found("keys.E001") or isinstance(value, dict)
    settings.KEYS = dict.fromkeys(DEFAULTS, value)
    assert found("keys.E006") or value in (0, 10**40)


@pytest.mark.parametrize("name", DEFAULTS)
def test_every_option_is_checked(settings: Settings, name: str) -> None:
    settings.KEYS = {name: object()}
    errors = [str(message) for message in run_checks(tags=["keys"], databases=[]) if message.is_serious()]
    assert any(name in error for error in errors)


def answer(request: Any, status: int, detail: str) -> None:
    pass


def answer_too_little(request: Any, status: int) -> None:
    pass


async def answer_later(request: Any, status: int, detail: str) -> None:
    pass


HERE = "tests.checks.test_options"


@pytest.mark.parametrize(
    ("path", "says"),
    [("answer", "dotted path"), (3, "dotted path"), (f"{HERE}.nobody", "imported"), ("nowhere.at_all", "imported"),
     (f"{HERE}.SCOPES", "called"), (f"{HERE}.answer_too_little", "other arguments"), (f"{HERE}.answer_later", "async")],
)  # fmt: skip
def test_the_function_that_answers_can_be_called(settings: Settings, path: Any, says: str) -> None:
    settings.KEYS = {"REFUSAL_RESPONSE": path}
    (message,) = found("keys.E041")
    assert says in message

    for good in (f"{HERE}.answer", "django.http.HttpResponse", ""):
        settings.KEYS = {"REFUSAL_RESPONSE": good}
        assert not found("keys.E041")
