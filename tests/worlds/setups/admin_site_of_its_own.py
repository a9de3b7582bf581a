"""The only admin site is the project's own, under another name; it has neither users nor Django's log."""

from collections.abc import Callable, Iterator

from tests.worlds.settings import *  # noqa: F403

ROOT_URLCONF = "tests.worlds.urls_sites"
ADMIN, ADMIN_HAS, DJANGOS_ADMIN_TOO = "office", {"apikey", "auditevent"}, False


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    from tests.worlds import admin_everything

    yield from admin_everything.steps("office")
