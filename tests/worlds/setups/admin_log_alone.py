"""The only admin site has the log and not the keys."""

from collections.abc import Callable, Iterator

from tests.worlds.settings import *  # noqa: F403

ROOT_URLCONF = "tests.worlds.urls_sites"
ADMIN, ADMIN_HAS, DJANGOS_ADMIN_TOO = "office", {"auditevent"}, False


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    from tests.worlds import admin_everything

    yield "links", lambda: admin_everything.links("office")
    yield "log", lambda: admin_everything.log("office")
    yield "search", lambda: admin_everything.search("office", "auditevent")
    yield "older events", lambda: admin_everything.older_events("office")
