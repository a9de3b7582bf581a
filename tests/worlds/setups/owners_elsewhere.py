"""Keys belong to users who are in another database than the keys and their log."""

from collections.abc import Callable, Iterator

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import DATABASES, KEYS, NAME, test_database

DATABASES["keys_db"] = test_database(f"{NAME}_keys")
DATABASE_ROUTERS = ["tests.support.routers.KeysElsewhere"]
KEYS = {**KEYS, "OWNERS": ["auth.User"]}


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    yield "an owner who leaves", an_owner_who_leaves
    yield "a deletion that is rolled back", a_deletion_that_is_rolled_back
    yield "keys that are away when their owner goes", keys_that_are_away
    yield "owners who are away", owners_who_are_away


def an_owner_who_leaves() -> None:
    from django.contrib.auth.models import User
    from django.db import connections, transaction
    from django.test.utils import CaptureQueriesContext

    from keys import lifecycle
    from keys.models import APIKey, AuditEvent
    from tests.worlds.requests import ask, rows

    anna = User.objects.create_user("anna")
    key = lifecycle.create("Anna's", owner=anna, scopes=["orders:read"])
    assert ask(key) == 200
    with CaptureQueriesContext(connections["default"]) as queries:
        assert ask(key) == 200
    assert len(queries) == 1
    User.objects.filter(pk=anna.pk).update(is_active=False)
    assert (ask(key), rows()[-1]) == (401, ("refused", "owner", 401))
    with transaction.atomic(using="default"):
        anna.delete()
        # The other database cannot know yet whether it comes to that.
        assert APIKey.objects.get(pk=key.pk).is_active
    assert not APIKey.objects.get(pk=key.pk).is_active
    event = AuditEvent.objects.get(event="deactivated", api_key=key.pk)
    assert event.detail == f"owner {key.owner_ref} was deleted"


def a_deletion_that_is_rolled_back() -> None:
    from django.contrib.auth.models import User
    from django.db import transaction

    from keys import lifecycle
    from tests.worlds.requests import ask

    ben = User.objects.create_user("ben")
    key = lifecycle.create("Ben's", owner=ben, scopes=["orders:read"])
    with transaction.atomic(using="default"):
        User.objects.filter(pk=ben.pk).delete()
        transaction.set_rollback(True, using="default")
    assert ask(key) == 200


def keys_that_are_away() -> None:
    """A user can be deleted while nobody can write to the keys, which are refused all the same."""
    from django.contrib.auth.models import User

    from keys import lifecycle
    from keys.models import APIKey
    from tests.support.tables import renamed
    from tests.worlds.requests import ask, rows

    carl = User.objects.create_user("carl")
    key = lifecycle.create("Carl's", owner=carl, scopes=["orders:read"])
    with renamed("keys_apikey", "keys_db"):
        carl.delete()
    assert APIKey.objects.get(pk=key.pk).is_active
    assert (ask(key), rows()[-1]) == (401, ("refused", "owner", 401))


def owners_who_are_away() -> None:
    from django.contrib.auth.models import User

    from keys import lifecycle
    from keys.models import APIKey
    from tests.support.tables import renamed
    from tests.worlds.requests import ask

    key = lifecycle.create("Dora's", owner=User.objects.create_user("dora"), scopes=["orders:read"])
    free = APIKey.objects.create(name="Nobody's", scopes=["orders:read"])
    with renamed("auth_user"):
        assert (ask(key), ask(free)) == (503, 200)
    assert (ask(key), ask(free)) == (200, 200)
