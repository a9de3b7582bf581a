"""What is MariaDB's alone."""

from collections.abc import Iterator

import pytest
from django.db import DEFAULT_DB_ALIAS, connection
from django.test import Client
from pytest_django import Settings

from keys.models import APIKey
from tests.support.commands import found

pytestmark = [
    pytest.mark.skipif(connection.vendor != "mysql", reason="MariaDB's alone."),
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture
def narrow_log() -> Iterator[None]:
    """The log's table as a server makes it whose default is an older character set."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE keys_auditevent CONVERT TO CHARACTER SET latin1")
    yield
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE keys_auditevent CONVERT TO CHARACTER SET utf8mb4")


def test_a_log_that_lacks_characters_is_warned_of(narrow_log: None) -> None:
    (message,) = found("keys.W012", databases=[DEFAULT_DB_ALIAS])
    assert "latin1" in message
    assert not found("keys.W012")


def test_a_log_that_takes_every_character_is_not() -> None:
    assert not found("keys.W012", databases=[DEFAULT_DB_ALIAS])


def test_a_time_zone_that_is_not_loaded_is_warned_of(settings: Settings) -> None:
    settings.TIME_ZONE = "Mars/Olympus_Mons"
    (message,) = found("keys.W013", databases=[DEFAULT_DB_ALIAS])
    assert "Mars/Olympus_Mons" in message
    assert not found("keys.W013")


@pytest.mark.parametrize("time_zone", ["UTC", "Europe/Berlin"])
def test_one_that_is_loaded_is_not(settings: Settings, time_zone: str) -> None:
    settings.TIME_ZONE = time_zone
    assert not found("keys.W013", databases=[DEFAULT_DB_ALIAS])


def test_a_use_that_the_log_cannot_hold_does_not_happen(narrow_log: None) -> None:
    client = Client(headers={"X-API-Key": APIKey.objects.create(name="A").key})
    assert client.get("/guarded/", headers={"User-Agent": "curl"}).status_code == 200
    assert client.get("/guarded/", headers={"User-Agent": "😀"}).status_code == 503


def test_a_log_that_stays_locked_is_out_of_reach() -> None:
    client = Client(headers={"X-API-Key": APIKey.objects.create(name="A").key})
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("LOCK TABLES keys_auditevent WRITE")
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION lock_wait_timeout = 1")
        assert client.get("/guarded/").status_code == 503
    finally:
        other.close()
    assert client.get("/guarded/").status_code == 200
    connection.close()
