"""Everybody has to log in, unless a view says otherwise: LoginRequiredMiddleware."""

from collections.abc import Callable, Iterator

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import MIDDLEWARE

MIDDLEWARE = [*MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    from django.test import override_settings

    from tests.worlds import requests
    from tests.worlds.setups import login_required

    def the_other_way_round() -> None:
        *others, ours, theirs = MIDDLEWARE
        with override_settings(MIDDLEWARE=[*others, theirs, ours]):
            requests.accepted(login_required)
            requests.refused(login_required)

    yield "its middleware before ours", the_other_way_round
