"""The old tokens, of which nothing is known before each test."""

from collections.abc import Iterator
from typing import Any

import pytest
from pytest_django import Settings

from keys.keyrings import legacy
from tests.keyrings.old_tokens import OldTokens


@pytest.fixture
def old(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[OldTokens]]:
    """The keyring in front of which `/orders/` is; a test may change what it knows."""
    settings.ROOT_URLCONF = "tests.keyrings.old_tokens"
    for name in ("known", "asked", "adopts", "source"):
        value: Any = vars(OldTokens)[name]
        monkeypatch.setattr(OldTokens, name, value)
    legacy._told.clear()
    yield OldTokens
    legacy._told.clear()
