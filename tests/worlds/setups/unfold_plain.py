"""The admin looks as django-unfold has it; our admin classes are registered as they are."""

from collections.abc import Callable, Iterator

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import INSTALLED_APPS as ORDINARY

PACKAGES = ("unfold",)
INSTALLED_APPS = ["unfold", *ORDINARY]


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    from tests.worlds import admin_everything

    yield from admin_everything.steps()
