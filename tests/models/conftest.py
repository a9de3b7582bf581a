"""Keys, and copies of them that were loaded before something happened."""

import pytest

from keys.models import APIKey
from tests.support.keys import made_before


@pytest.fixture
def key(db: None) -> APIKey:
    return made_before()


@pytest.fixture
def made(db: None) -> APIKey:
    return APIKey.objects.create(name="A")


@pytest.fixture
def old(made: APIKey) -> APIKey:
    return APIKey.objects.get(pk=made.pk)
