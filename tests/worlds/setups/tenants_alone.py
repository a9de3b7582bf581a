"""Tenants with a schema each, and keys in theirs alone."""

from collections.abc import Callable, Iterator

from tests.worlds.tenancy.settings import *  # noqa: F403
from tests.worlds.tenancy.settings import APPS_OF_ALL

SHARED_APPS = ["django_tenants", "tests.worlds.tenancy", *APPS_OF_ALL]
TENANT_APPS = [*APPS_OF_ALL, "keys.apps.KeysConfig"]
INSTALLED_APPS = [*SHARED_APPS, "keys.apps.KeysConfig"]
# Not each request commits the search path once more.
TENANT_LIMIT_SET_CALLS = True


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    from tests.worlds.tenancy.steps import steps_for

    yield from steps_for("acme", "globex")
