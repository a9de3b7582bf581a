"""Keys and log are read from a replica that lags: it has the tables, and rows as they were long ago."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import DATABASES, NAME, test_database

DATABASES["replica"] = test_database(f"{NAME}_replica")
DATABASE_ROUTERS = ["tests.support.routers.LaggingReplica"]
# The log's pages show what the replica has, which is nothing before a step copies rows.
ADMIN_HAS = {"apikey"}


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    yield "rotated twice", rotated_twice
    yield "explained", explained
    yield "an old copy on the replica", an_old_copy_on_the_replica
    yield "a flood", a_flood
    yield "out of use", out_of_use
    yield "unique", unique
    yield "imported", imported
    yield "sealed and pruned", sealed_and_pruned
    yield "the log's pages read the replica", log_pages_read_the_replica


def replicate(*instances: Any) -> None:
    """Copy rows to the replica as they are now."""
    for instance in instances:
        instance.save_base(raw=True, using="replica")
        instance._state.db = "default"


def rotated_twice() -> None:
    from keys.models import APIKey

    key = APIKey.objects.create(name="Twice")
    successor = key.rotate()
    again = APIKey.objects.get(pk=key.pk)
    assert again.rotate() == successor
    assert again.replaced_by == successor
    assert successor.predecessor == again
    assert again.replaced_by.last_used_at is None


def explained() -> None:
    from keys.models import APIKey
    from tests.worlds.commands import run

    key = APIKey.objects.create(name="Explained")
    successor = key.rotate(timedelta(0))
    assert "has replaced it" in refused(key), refused(key)
    assert str(successor) in refused(key)
    successor.deactivate()
    assert "was deactivated" in refused(successor), refused(successor)
    assert "Explained" in run("keys_list")


def refused(key: Any) -> str:
    from keys.management.explanation import explain

    explanation = explain(str(key.key))
    assert not explanation.accepted
    return explanation.sentence


def an_old_copy_on_the_replica() -> None:
    """An active key on the replica is the one that was ended on the other database since."""
    from django.test import Client

    from keys.audit.reports import unused
    from keys.models import APIKey
    from tests.worlds.admin_pages import boss

    key = APIKey.objects.create(name="Old copy", scopes=["orders:read"])
    copy = APIKey.objects.get(pk=key.pk)
    replicate(copy)
    key.deactivate()
    assert APIKey.objects.filter(key=key.key, is_active=True).first() is None
    assert not APIKey.objects.accepted().filter(pk=key.pk).exists()
    assert key.pk not in {each.pk for each in unused(timedelta(0))}
    copy.refresh_from_db()
    assert not copy.is_active
    assert Client(headers={"X-API-Key": key.key}).get("/orders/").status_code == 401
    # The admin's form compares with the row that is there.
    page = f"/admin/keys/apikey/{key.pk}/change/"
    assert "checked" not in boss().get(page).content.decode().split('name="is_active"')[1].split(">")[0]
    replicate(copy)
    key.is_active = True
    key.save()
    assert APIKey.objects.get(pk=key.pk).is_active


def a_flood() -> None:
    from django.test import Client

    from keys.models import AuditEvent

    stranger = Client(headers={"X-API-Key": "e" * 40}, REMOTE_ADDR="203.0.113.9")
    before = AuditEvent.objects.written().count()
    for _ in range(30):
        assert stranger.get("/plain-orders/").status_code == 401
    rows = AuditEvent.objects.written().order_by("-id")[: AuditEvent.objects.written().count() - before]
    # A minute may end between them.
    assert len(rows) <= 12, len(rows)
    assert sum(row.count for row in rows) == 30


def out_of_use() -> None:
    """Whether a key may be retired is read where its uses are written."""
    from django.test import Client

    from keys.audit.reports import retirement
    from keys.models import APIKey
    from tests.worlds.commands import fails

    key = APIKey.objects.create(name="In use", scopes=["orders:read"])
    key.rotate()
    assert Client(headers={"X-API-Key": key.key}).get("/orders/").status_code == 200
    assert key.last_used_at is not None
    report = retirement(APIKey.objects.get(pk=key.pk))
    assert (report.uses_since, report.is_safe) == (1, False), report
    fails("keys_deactivate", str(key.pk), "--if-safe", "--no-input")
    assert APIKey.objects.get(pk=key.pk).is_active


def unique() -> None:
    from django.core.exceptions import ValidationError

    from keys.models import APIKey

    APIKey.objects.create(name="First", key="a-key-that-a-person-typed")
    second = APIKey(name="Second", key="a-key-that-a-person-typed")
    try:
        second.full_clean()
    except ValidationError:
        return
    raise AssertionError("The key exists already.")


def imported() -> None:
    from django.contrib.auth import get_user_model
    from rest_framework.authtoken.models import Token

    from keys.models import APIKey
    from tests.worlds.commands import run

    token = Token.objects.create(user=get_user_model().objects.create_user("service"))
    assert "1 imported" in run("keys_import", "authtoken")
    assert "1 was here already" in run("keys_import", "authtoken")
    assert APIKey.objects.filter(key=token.key).exists()


def sealed_and_pruned() -> None:
    from datetime import timedelta

    from django.utils import timezone

    from keys.audit import retention, sealing, verifying

    assert list(sealing.seal())
    assert not verifying.verify().problems
    # Rounded down to a second, so that all of it is before.
    assert retention.prune(timezone.now() + timedelta(seconds=1)) > 0
    assert not verifying.verify().problems


def log_pages_read_the_replica() -> None:
    """The log's list and its export follow the router; reports, by which people retire keys, do not."""
    from django.utils import timezone

    from keys.audit.reports import usage
    from keys.models import AuditEvent
    from tests.support.log import record
    from tests.worlds.admin_pages import boss, log

    event = record(method="GET", path="/seen/", at=timezone.now(), key_name="env:SEEN")
    since = timezone.now() - timedelta(days=1)
    assert [line.path for line in usage(since=since, key="env:SEEN")] == ["/seen/"]
    assert "/seen/" not in boss().get("/admin/keys/auditevent/").content.decode()
    replicate(AuditEvent.objects.written().get(pk=event.pk))
    assert "/seen/" in boss().get("/admin/keys/auditevent/").content.decode()
    log(boss(), "admin")
