"""A router keeps the keys and their log in a database of their own, away from the users."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import DATABASES, NAME, TEMPLATES, test_database

if TYPE_CHECKING:
    from django.test import Client

DATABASES["keys_db"] = test_database(f"{NAME}_keys")
DATABASE_ROUTERS = ["tests.support.routers.KeysElsewhere"]


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    yield "tables", tables
    yield "pages that fail", pages_that_fail
    yield "output that is lost", output_that_is_lost
    yield "a history that fails", history_that_fails
    yield "a deletion that fails", a_deletion_that_fails
    yield "a form sent twice", a_form_sent_twice
    yield "two clicks at once", two_clicks_at_once
    yield "owners", owners
    yield "adoption", adoption


def adoption() -> None:
    """A key of another system becomes one in the keys' database."""
    from keys.models import APIKey, KeyOrigin
    from tests.keyrings.old_tokens import TOKEN, uses_of_one

    assert uses_of_one(TOKEN) == ["created", "used", "used"]
    assert KeyOrigin.objects.get().api_key_id == APIKey.objects.get(name="Billing").pk
    assert APIKey.objects.get(name="Billing")._state.db == "keys_db"


def owners() -> None:
    from tests.worlds import admin_everything

    admin_everything.owners("admin")


def tables() -> None:
    from django.db import connections

    for alias, is_here in (("default", False), ("keys_db", True)):
        names = set(connections[alias].introspection.table_names())
        assert ("keys_apikey" in names) is ("keys_auditevent" in names) is is_here, alias
        assert ("auth_user" in names) is not is_here, alias


def pages_that_fail() -> None:
    """What no page could show has not happened, in neither database."""
    from django.urls import reverse

    from keys.models import APIKey
    from tests.worlds.admin_pages import boss

    key = APIKey.objects.create(name="Kept")
    browser, before = boss(), counts()
    for address, data in (
        (reverse("admin:keys_apikey_rotate"), {"keys": str(key.pk), "grace": "0"}),
        (reverse("admin:keys_apikey_add"), {"name": "Unseen", "expires_at_0": "", "expires_at_1": ""}),
    ):
        with broken("admin/keys/apikey/secret.html"):
            assert browser.post(address, data).status_code == 500, address
        assert counts() == before, address
    key.refresh_from_db()
    assert key.replaced_by is None
    assert browser.post(reverse("admin:keys_apikey_rotate"), {"keys": str(key.pk), "grace": "0"}).status_code == 200
    # Key, two events, two entries of the history.
    assert counts() == (before[0] + 1, before[1] + 2, before[2] + 2)


def output_that_is_lost() -> None:
    """What a command cannot write out has not happened in the keys' database."""
    from io import StringIO

    import pytest
    from django.core.management import CommandError, call_command

    from keys.models import APIKey

    class Full(StringIO):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    key = APIKey.objects.create(name="Not ended")
    before = counts()
    for arguments in (["keys_create", "Unseen"], ["keys_rotate", str(key.pk), "--grace", "0"]):
        with pytest.raises(CommandError, match=r"^Nothing was changed"):
            call_command(*arguments, stdout=Full())
        assert counts() == before, arguments
    key.refresh_from_db()
    assert (key.replaced_by, key.expires_at) == (None, None)


def history_that_fails() -> None:
    """A key is neither changed nor ended nor deleted where the admin's history of it cannot be written."""
    from django.contrib.admin.models import LogEntry
    from django.db.models.signals import pre_save
    from django.urls import reverse

    from keys.models import APIKey
    from tests.worlds.admin_pages import boss

    key = APIKey.objects.create(name="Kept, too")
    browser, before = boss(), counts()

    def refuse(**kwargs: object) -> None:
        raise RuntimeError("The history cannot be written.")

    form = {"name": "Other", "is_active": "on", "expires_at_0": "", "expires_at_1": "", "rate": ""}
    pre_save.connect(refuse, sender=LogEntry)
    try:
        for address, data in (
            (reverse("admin:keys_apikey_change", args=[key.pk]), form),
            (reverse("admin:keys_apikey_deactivate"), {"keys": str(key.pk)}),
            (reverse("admin:keys_apikey_delete", args=[key.pk]), {"post": "yes"}),
        ):
            assert browser.post(address, data).status_code == 500, address
            assert counts() == before, address
    finally:
        pre_save.disconnect(refuse, sender=LogEntry)
    kept = APIKey.objects.get(pk=key.pk)
    assert (kept.name, kept.is_active) == ("Kept, too", True)


def a_deletion_that_fails() -> None:
    """The admin's history holds no deletion of a key that is still there."""
    from django.db.models.signals import pre_delete
    from django.urls import reverse

    from keys.models import APIKey
    from tests.worlds.admin_pages import boss

    key = APIKey.objects.create(name="Protected")
    browser, before = boss(), counts()

    def refuse(**kwargs: object) -> None:
        raise RuntimeError("The key cannot be deleted.")

    chosen = {"action": "delete_selected", "_selected_action": [str(key.pk)], "post": "yes"}
    pre_delete.connect(refuse, sender=APIKey)
    try:
        for address, data in (
            (reverse("admin:keys_apikey_changelist"), chosen),
            (reverse("admin:keys_apikey_delete", args=[key.pk]), {"post": "yes"}),
        ):
            assert browser.post(address, data).status_code == 500, address
            assert counts() == before, address
    finally:
        pre_delete.disconnect(refuse, sender=APIKey)
    assert browser.post(reverse("admin:keys_apikey_changelist"), chosen).status_code == 302
    assert counts() == (before[0] - 1, before[1] + 1, before[2] + 1)


def a_form_sent_twice() -> None:
    """The person's row, in the other database, is locked for it."""
    from uuid import uuid4

    from django.urls import reverse

    from keys.models import APIKey
    from tests.worlds.admin_pages import boss

    form = {"name": "Once", "expires_at_0": "", "expires_at_1": "", "form_id": str(uuid4())}
    browser = boss()
    first, second = (browser.post(reverse("admin:keys_apikey_add"), form) for _ in range(2))
    key = APIKey.objects.get(name="Once")
    assert "Your new API key" in first.content.decode()
    assert reverse("admin:keys_apikey_change", args=[key.pk]) in second.content.decode()


def counts() -> tuple[int, int, int]:
    from django.contrib.admin.models import LogEntry

    from keys.models import APIKey, AuditEvent

    return APIKey.objects.count(), AuditEvent.objects.count(), LogEntry.objects.count()


def two_clicks_at_once() -> None:
    """They make one key: the second waits for the first, whose row of the person is locked in the other database."""
    from concurrent.futures import ThreadPoolExecutor
    from uuid import uuid4

    from django.db import connections
    from django.urls import reverse

    from keys.models import APIKey
    from tests.worlds.admin_pages import boss

    form = {"name": "Clicked", "expires_at_0": "", "expires_at_1": "", "form_id": str(uuid4())}
    browsers = [boss() for _ in range(4)]

    def click(browser: "Client") -> str:
        try:
            return browser.post(reverse("admin:keys_apikey_add"), form).content.decode()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(browsers)) as pool:
        pages = list(pool.map(click, browsers))
    assert sum("Your new API key" in page for page in pages) == 1, pages
    assert sum("No second key was made" in page for page in pages) == 3, pages
    assert APIKey.objects.filter(name="Clicked").count() == 1


@contextmanager
def broken(template: str) -> Iterator[None]:
    """Let the project have a template of that name that cannot be rendered."""
    from django.test import override_settings

    with TemporaryDirectory() as folder:
        path = Path(folder) / template
        path.parent.mkdir(parents=True)
        path.write_text("{% load no_such_library %}")
        with override_settings(TEMPLATES=[{**TEMPLATES[0], "DIRS": [folder]}]):
            yield
