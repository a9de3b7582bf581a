"""Tenants with keys in their schemas alone, whose users are shared by all and own keys."""

from collections.abc import Callable, Iterator

from tests.worlds.tenancy.settings import *  # noqa: F403
from tests.worlds.tenancy.settings import APPS_OF_ALL, KEYS

SHARED_APPS = ["django_tenants", "tests.worlds.tenancy", *APPS_OF_ALL]
TENANT_APPS = ["keys"]
INSTALLED_APPS = [*SHARED_APPS, *TENANT_APPS]
KEYS = {**KEYS, "OWNERS": ["auth.User"]}


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    from tests.worlds.tenancy import steps

    yield "owners", lambda: steps.owners_are_shared_by_all("acme", "globex")
