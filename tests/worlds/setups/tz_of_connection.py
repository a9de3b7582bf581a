"""The database keeps local time of a zone of its own, by its option TIME_ZONE."""

from collections.abc import Callable, Iterator

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import DATABASES as DATABASES

TIME_ZONE = "Europe/Berlin"
DATABASES["default"]["TIME_ZONE"] = "Asia/Tokyo"


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    from tests.worlds.setups import use_tz_off

    yield "days", use_tz_off.days
    yield "retention", use_tz_off.retention
    yield "append-only", append_only


def append_only() -> None:
    """Triggers know how old a row is, or the command says in a sentence why they cannot."""
    from django.db import connection
    from django.test import override_settings

    from tests.worlds.commands import fails, run
    from tests.worlds.setups import use_tz_off

    if connection.vendor != "sqlite":
        use_tz_off.append_only()
        return
    fails("keys_guard", "install", "--keep", "1d")
    run("keys_guard", "install")
    run("keys_guard", "remove")
    # The time zone of the process is the one that SQLite can tell.
    with override_settings(TIME_ZONE="Asia/Tokyo"):
        use_tz_off.append_only()
