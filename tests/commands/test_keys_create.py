"""`keys_create` and `keys_generate`: what they make, and where they say it."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from keys.models import APIKey, AuditEvent
from tests.support.commands import manage, run

pytestmark = pytest.mark.matrix

TOKEN = re.compile(r"[0-9a-f]{40}\n")


@pytest.mark.django_db(transaction=True)
def test_the_secret_alone_goes_to_standard_output(client: Client) -> None:
    made = manage("keys_create", "TTS-Backend")
    assert made.status == 0
    assert TOKEN.fullmatch(made.out)
    assert made.out.strip() not in made.err
    assert "Made TTS-Backend" in made.err
    assert client.get("/guarded/", headers={"X-API-Key": made.out.strip()}).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_mistake_is_one_sentence_on_standard_error_and_no_secret() -> None:
    made = manage("keys_create", "TTS-Backend", "--scope", "users:write")
    assert (made.status, made.out) == (1, "")
    assert made.err.startswith("CommandError: scopes: “users:write” is not registered")
    assert "Traceback" not in made.err
    assert not APIKey.objects.exists()


@pytest.mark.django_db
def test_the_event_says_who_made_the_key_on_the_command_line() -> None:
    run("keys_create", "TTS-Backend")
    event = AuditEvent.objects.get()
    assert (event.event, event.key_name) == ("created", "TTS-Backend")
    assert re.fullmatch(r"command line: \S+", event.actor)


@pytest.mark.django_db
def test_a_key_gets_everything_it_is_given() -> None:
    made = run(
        "keys_create", "TTS-Backend", "--scope", "users:read", "--scope=tracking:write", "--expires", "90d",
        "--allowed-ip", "10.0.0.0/8", "--allowed-ip", "2001:db8::/32", "--rate", "100/min",
    )  # fmt: skip
    key = APIKey.objects.get(key=made.out.strip())
    assert key.scopes == ["users:read", "tracking:write"]
    assert key.allowed_ips == ["10.0.0.0/8", "2001:db8::/32"]
    assert key.rate == "100/min"
    assert key.expires_at is not None
    assert abs(key.expires_at - timezone.now() - timedelta(days=90)) < timedelta(minutes=1)
    for part in ("users:read, tracking:write", "10.0.0.0/8, 2001:db8::/32", "100/min", f"{key.expires_at:%Y-%m-%d}"):
        assert part in made.err


@pytest.mark.django_db
def test_scopes_are_the_defaults_or_none_when_asked_for() -> None:
    assert APIKey.objects.get(key=run("keys_create", "A").out.strip()).scopes == ["users:read", "employees:read"]
    assert APIKey.objects.get(key=run("keys_create", "B", "--no-scopes").out.strip()).scopes == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2100-01-31", datetime(2100, 1, 30, 23, tzinfo=UTC)),
        ("2100-01-31T12:00", datetime(2100, 1, 31, 11, tzinfo=UTC)),
        ("2100-01-31T12:00Z", datetime(2100, 1, 31, 12, tzinfo=UTC)),
    ],
)
def test_an_expiry_may_be_a_day_or_a_moment_in_the_zone_of_the_project(
    text: str, moment: datetime, settings: Settings
) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    made = run("keys_create", "TTS-Backend", "--expires", text)
    assert APIKey.objects.get(key=made.out.strip()).expires_at == moment


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([""], "name: This field cannot be blank."),
        (["x" * 101], "name: Ensure this value has at most 100 characters (it has 101)."),
        (["TTS", "--expires", "2020-01-01"], "2020-01-01 00:00 UTC is in the past."),
        (["TTS", "--expires", "0"], "is in the past."),
        (["TTS", "--expires", "2100-02-30"], "neither a length of time, such as 12h or 90d, nor a date"),
        (["TTS", "--expires", "soon"], "neither a length of time, such as 12h or 90d, nor a date"),
        (["TTS", "--scope", "Read everything"], "“Read everything” is not a scope"),
        (["TTS", "--allowed-ip", "10.0.0.0/33"], "“10.0.0.0/33” is not an IPv4 or IPv6 network"),
        (["TTS", "--rate", "often"], "“often” is not a rate"),
        (["TTS", "--scope", "users:read", "--no-scopes"], "not allowed with argument"),
    ],
)
def test_nonsense_makes_no_key(arguments: list[str], sentence: str) -> None:
    made = run("keys_create", *arguments)
    assert made.status == 1
    assert made.out == ""
    assert sentence in made.err
    assert not APIKey.objects.exists()


@pytest.mark.django_db
def test_what_turns_a_name_around_does_not_reach_the_terminal() -> None:
    made = run("keys_create", "TTS\u202e")
    assert made.status == 0
    assert "TTS\\u202e" in made.err
    assert "\u202e" not in made.err


@pytest.mark.django_db
def test_quiet_is_quiet() -> None:
    made = run("keys_create", "TTS-Backend", "--verbosity", "0")
    assert TOKEN.fullmatch(made.out)
    assert made.err == ""


def test_a_secret_for_the_environment_is_long_enough_and_has_nothing_to_escape() -> None:
    first, second = run("keys_generate"), run("keys_generate")
    assert re.fullmatch(r"[0-9a-f]{64}\n", first.out)
    assert first.out != second.out
    assert first.err == ""


@pytest.mark.parametrize(("size", "length"), [("16", 32), ("64", 128)])
def test_the_length_of_a_secret_can_be_chosen(size: str, length: int) -> None:
    assert len(run("keys_generate", "--bytes", size).out.strip()) == length


@pytest.mark.parametrize("size", ["15", "65", "-1", "many"])
def test_a_secret_that_no_guard_would_take_is_not_made(size: str) -> None:
    made = run("keys_generate", "--bytes", size)
    assert (made.status, made.out) == (1, "")


@pytest.mark.django_db
def test_a_secret_can_be_made_while_a_check_complains_of_the_old_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBHOOK_API_KEY", "short")
    assert run("check").status == 1
    assert manage("keys_generate").status == 0
