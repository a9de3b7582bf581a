"""An API without the admin, and without sessions, messages and static files."""

from collections.abc import Callable, Iterator

from tests.worlds.settings import *  # noqa: F403

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework",
    "rest_framework.authtoken",
    "keys",
]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware", "keys.middleware.APIKeyMiddleware"]
WITHOUT = {"admin"}


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    from tests.worlds import template_rendering

    yield "templates", template_rendering.renders
