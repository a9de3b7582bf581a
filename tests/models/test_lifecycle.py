"""Making keys, and reminding of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone
from pytest_django import Settings

from keys import lifecycle, signals
from keys.models import APIKey
from tests.support.keys import make_key


@pytest.mark.django_db
def test_a_key_is_made_with_what_it_is_given() -> None:
    expiry = timezone.now() + timedelta(days=1)
    key = lifecycle.create(" TTS ", scopes=["users:read"], expires_at=expiry, allowed_ips=["10.0.0.0/8"], rate="5/min")
    stored = APIKey.objects.get(key=key.key)
    assert (stored.name, stored.scopes, stored.expires_at) == ("TTS", ["users:read"], expiry)
    assert (stored.allowed_ips, stored.rate) == (["10.0.0.0/8"], "5/min")


@pytest.mark.django_db
def test_a_key_gets_the_default_scopes_unless_it_is_given_none(settings: Settings) -> None:
    settings.KEYS = {"SCOPES": {"users:read": "."}, "DEFAULT_SCOPES": ["users:read"]}
    assert lifecycle.create("TTS").scopes == ["users:read"]
    assert lifecycle.create("TTS", scopes=[]).scopes == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("", {}),
        ("   ", {}),
        ("x" * 101, {}),
        ("TTS", {"scopes": ["users:write"]}),
        ("TTS", {"allowed_ips": ["10.0.0.0/33"]}),
        ("TTS", {"rate": "often"}),
        ("TTS", {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}),
    ],
)
def test_no_key_is_made_of_nonsense(name: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        lifecycle.create(name, **fields)
    assert not APIKey.objects.exists()


@pytest.mark.django_db
def test_a_reminder_reaches_every_receiver_though_one_fails() -> None:
    reached: list[str] = []

    def failing(key: APIKey, **kwargs: object) -> None:
        raise RuntimeError(key.name)

    def noting(key: APIKey, **kwargs: object) -> None:
        reached.append(key.name)

    keys = [make_key("One"), make_key("Two")]
    signals.key_unused.connect(failing)
    signals.key_unused.connect(noting)
    try:
        errors = lifecycle.remind(signals.key_unused, keys)
    finally:
        signals.key_unused.disconnect(failing)
        signals.key_unused.disconnect(noting)
    assert reached == [str(error) for error in errors] == ["One", "Two"]
