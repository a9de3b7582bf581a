"""Checks of keyrings that ask another system."""

from typing import Any, ClassVar

import pytest
from pytest_django import Settings

from keys.decorators import api_key_required
from keys.keyrings import DatabaseKeyring, EnvironmentKeyring, LegacyKey, LegacyKeyring
from keys.verification import Guard
from tests.support.commands import found, serve


class Old(LegacyKeyring):
    source: ClassVar[Any] = "tokens.Token"
    adopts: ClassVar[Any] = True

    def look_up(self, token: str) -> LegacyKey | None:
        return None


class Others(Old):
    pass


class Asynchronous(Old):
    async def look_up(self, token: str) -> LegacyKey | None:  # type: ignore[override]
        return None


class Bare(LegacyKeyring):
    pass


def made(**attributes: Any) -> Any:
    return type("Made", (Old,), attributes)()


def views(settings: Settings, *keyrings: Any) -> None:
    serve(settings, *(api_key_required(guard=Guard(keyrings=rings))(print) for rings in keyrings))


@pytest.mark.parametrize(
    ("ring", "said"),
    [(Old(), []), (Others(), []), (made(adopts=False, source=""), []), (Bare(), ["has no look_up()"]),
     (Asynchronous(), ["has an asynchronous look_up(), which nobody awaits"]),
     (made(source=""), ["has adopts = True and no source, so that no key is adopted"]),
     (made(source=7), ["has source = 7, which is neither a model nor a text"]),
     (made(source=dict), ["has source = <class 'dict'>, which is neither a model nor a text"]),
     (made(source="x" * 101), ["has a source of more than 100 characters"]),
     (made(adopts="yes"), ["has adopts = 'yes', which is no switch"])],
)  # fmt: skip
def test_a_keyring_that_cannot_work_is_named(settings: Settings, ring: LegacyKeyring, said: list[str]) -> None:
    views(settings, (DatabaseKeyring(), ring))
    messages = found("keys.E040")
    assert len(messages) == len(said)
    assert all(f"{ring.name} {text}." in message for text, message in zip(said, messages, strict=True))


@pytest.mark.parametrize(
    ("rings", "is_told"),
    [((DatabaseKeyring(), Old()), False), ((Old(), DatabaseKeyring()), True), ((Old(),), True),
     ((EnvironmentKeyring("A"), Old(), DatabaseKeyring()), True), ((made(adopts=False, source=""),), False)],
)  # fmt: skip
def test_the_database_is_asked_first(settings: Settings, rings: tuple[Any, ...], is_told: bool) -> None:
    views(settings, rings)
    assert len(found("keys.W041")) == is_told


def test_two_systems_have_two_sources(settings: Settings) -> None:
    views(settings, (DatabaseKeyring(), Old()), (DatabaseKeyring(), Old()))
    assert found("keys.W042") == []
    views(settings, (DatabaseKeyring(), Old()), (DatabaseKeyring(), Others()))
    (message,) = found("keys.W042")
    assert "tests.checks.test_keyrings.Old and tests.checks.test_keyrings.Others" in message or (
        "tests.checks.test_keyrings.Others and tests.checks.test_keyrings.Old" in message
    )
