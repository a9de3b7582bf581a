"""An admin site of its own has the keys and not the log; Django's site, beside it, has both."""

from collections.abc import Callable, Iterator

from tests.worlds.settings import *  # noqa: F403

ROOT_URLCONF = "tests.worlds.urls_sites"
ADMIN, ADMIN_HAS, DJANGOS_ADMIN_TOO = "office", {"apikey"}, True


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    from tests.worlds import admin_everything

    yield "links", lambda: admin_everything.links("office")
    yield "links of Django's site", lambda: admin_everything.links("admin")
    yield "search", lambda: admin_everything.search("office", "apikey")
