"""The admin looks as django-grappelli has it."""

from collections.abc import Callable, Iterator

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import INSTALLED_APPS as ORDINARY

PACKAGES = ("grappelli",)
INSTALLED_APPS = ["grappelli", *ORDINARY]
ROOT_URLCONF = "tests.worlds.urls_grappelli"


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    from tests.worlds import admin_everything

    yield from admin_everything.steps()
