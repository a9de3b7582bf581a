"""Users who own keys: Anna, and Ben, who is to get at nothing of hers."""

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from keys.models import APIKey
from keys.selfservice import rules
from tests.selfservice.limits import RULES


@pytest.fixture(autouse=True)
def _self_service(settings: Settings) -> None:
    settings.ROOT_URLCONF = "tests.selfservice.api_urls"
    settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User", "auth.Group"], "SELF_SERVICE": RULES}


@pytest.fixture
def anna(db: None) -> User:
    return User.objects.create_user("anna")


@pytest.fixture
def ben(db: None) -> User:
    return User.objects.create_user("ben")


@pytest.fixture
def key(anna: User) -> APIKey:
    return rules.create(anna, name="A", scopes=["users:read"])


@pytest.fixture
def given(anna: User) -> APIKey:
    """A key that an administrator gave: with more than users may give, for ever."""
    scopes, networks = ["users:*", "employees:read"], ["10.0.0.0/8"]
    return APIKey.objects.create(name="G", owner_ref=f"auth.user:{anna.pk}", scopes=scopes, allowed_ips=networks)
