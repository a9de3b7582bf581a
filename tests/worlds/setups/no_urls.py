"""A worker that answers no request: it has no addresses at all."""

from tests.worlds.settings import *  # noqa: F403

globals().pop("ROOT_URLCONF")
INSTALLED_APPS = ["keys"]
MIDDLEWARE = []
TEMPLATES = []
WITHOUT = {"admin", "request", "refusal", "introspection"}
