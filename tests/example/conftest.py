"""Two users of the example, and the client that holds the key which system C shares."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from example_project import settings as example

SHARED_KEY = "shared-webhook-key-of-32-characters-or-more"


@pytest.fixture
def ada(db: None) -> User:
    return User.objects.create_user("ada", "ada@example.com", "correct horse", first_name="Ada", last_name="Lovelace")


@pytest.fixture
def bob(db: None) -> User:
    return User.objects.create_user("bob", "bob@example.com", "battery staple")


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client that sends the shared key, which all five APIs take."""
    monkeypatch.setenv("WEBHOOK_API_KEY", SHARED_KEY)
    monkeypatch.setenv("TRACKING_INGEST_API_KEY", "")
    monkeypatch.setenv("TRACKING_INGEST_ALLOW_SHARED_KEY", "true")
    return Client(headers={"X-API-Key": SHARED_KEY})


@pytest.fixture
def with_owners(settings: Settings) -> None:
    """The example as it is: keys have owners, and users look after them."""
    for name in ("KEYS", "ROOT_URLCONF", "TEMPLATES", "LOGIN_URL", "LOGIN_REDIRECT_URL"):
        setattr(settings, name, getattr(example, name))
