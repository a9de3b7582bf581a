"""Tenants with a schema each, and keys in the public schema and in theirs."""

from collections.abc import Callable, Iterator

from tests.worlds.tenancy.settings import *  # noqa: F403
from tests.worlds.tenancy.settings import APPS_OF_ALL

SHARED_APPS = ["django_tenants", "tests.worlds.tenancy", *APPS_OF_ALL, "keys"]
TENANT_APPS = [*APPS_OF_ALL, "keys"]
INSTALLED_APPS = SHARED_APPS


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    from tests.worlds.tenancy.steps import steps_for

    yield from steps_for("public", "acme", "globex")
