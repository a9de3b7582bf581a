"""Keys belong to users of a model of the project's own, which are named by UUIDs."""

from collections.abc import Callable, Iterator
from typing import Any

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import INSTALLED_APPS, KEYS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.worlds.people"]
AUTH_USER_MODEL = "people.Person"
KEYS = {**KEYS, "OWNERS": [AUTH_USER_MODEL]}


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    yield "a person's keys", a_persons_keys
    yield "the model that was swapped out", the_model_that_was_swapped_out


def a_persons_keys() -> None:
    from django.contrib.auth import get_user_model
    from django.db import connection

    from keys import lifecycle
    from keys.models import APIKey, AuditEvent, owners
    from tests.worlds.requests import ask, rows

    people: Any = get_user_model().objects
    anna = people.create_user("anna")
    key = lifecycle.create("Anna's", owner=anna, scopes=["orders:read"])
    assert key.owner_ref == f"people.person:{anna.pk}"
    assert owners.names([key.owner_ref]) == {key.owner_ref: "anna"}
    assert ask(key) == 200
    people.filter(pk=anna.pk).update(is_active=False)
    assert (ask(key), rows()[-1]) == (401, ("refused", "owner", 401))
    people.filter(pk=anna.pk).update(is_active=True)
    assert ask(key) == 200
    # By the text of the UUID, as a form gives it.
    people.model(pk=str(anna.pk).replace("-", "")).delete()
    assert not APIKey.objects.get(pk=key.pk).is_active
    assert AuditEvent.objects.filter(owner=key.owner_ref, event="deactivated").count() == 1
    ben = people.create_user("ben")
    key = lifecycle.create("Ben's", owner=ben, scopes=["orders:read"])
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM people_person WHERE username = 'ben'")
    assert (ask(key), rows()[-1]) == (401, ("refused", "owner", 401))


def the_model_that_was_swapped_out() -> None:
    from django.test import override_settings

    from tests.support.commands import found

    with override_settings(KEYS={"OWNERS": ["auth.User"]}):
        (message,) = found("keys.E025")
        assert "it is swapped out for people.Person" in message
