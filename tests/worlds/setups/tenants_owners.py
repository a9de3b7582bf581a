"""Tenants with a schema each, whose users are others in each of them and own keys."""

from collections.abc import Callable, Iterator

from tests.worlds.tenancy.settings import *  # noqa: F403
from tests.worlds.tenancy.settings import APPS_OF_ALL, KEYS

SHARED_APPS = ["django_tenants", "tests.worlds.tenancy", *APPS_OF_ALL, "keys"]
TENANT_APPS = [*APPS_OF_ALL, "keys"]
INSTALLED_APPS = SHARED_APPS
KEYS = {**KEYS, "OWNERS": ["auth.User"]}


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    from tests.worlds.tenancy import steps

    yield "owners", lambda: steps.owners_are_others_in_each_tenant("acme", "globex")
