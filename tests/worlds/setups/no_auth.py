"""Keys and nothing else: no users, no content types, not even Django REST framework among the apps."""

from tests.worlds.settings import *  # noqa: F403

INSTALLED_APPS = ["keys"]
MIDDLEWARE = ["keys.middleware.APIKeyMiddleware"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
# Its own class for a stranger needs django.contrib.auth.
REST_FRAMEWORK = {"UNAUTHENTICATED_USER": None, "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"]}
WITHOUT = {"admin"}
