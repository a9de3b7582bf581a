"""A worker that answers no request: it has no addresses at all."""

from tests.worlds.settings import *  # noqa: F403

globals().pop("ROOT_URLCONF")
INSTALLED_APPS = ["keys"]
MIDDLEWARE: list[str] = []
TEMPLATES: list[object] = []
WITHOUT = {"admin", "request", "refusal"}
