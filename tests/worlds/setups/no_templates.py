"""An API without a template engine."""

from tests.worlds.settings import *  # noqa: F403

INSTALLED_APPS = ["keys", "rest_framework", "django.contrib.auth", "django.contrib.contenttypes"]
MIDDLEWARE = ["keys.middleware.APIKeyMiddleware"]
TEMPLATES = []
REST_FRAMEWORK = {"DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"]}
WITHOUT = {"admin"}
