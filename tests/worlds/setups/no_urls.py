"""A worker that answers no request: it has no addresses at all."""

from tests.worlds.settings import *  # noqa: F403

del ROOT_URLCONF  # noqa: F405
INSTALLED_APPS = ["keys"]
MIDDLEWARE: list[str] = []
TEMPLATES: list[object] = []
WITHOUT = {"admin", "request", "refusal"}
