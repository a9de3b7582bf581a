"""Keys stand before the admin and Django REST framework among the apps."""

from collections.abc import Callable, Iterator

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import INSTALLED_APPS as ORDINARY

INSTALLED_APPS = ["keys", *(app for app in ORDINARY if app != "keys")]


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    from tests.worlds import admin_everything

    yield from admin_everything.steps()
