"""The app, under the name that it would have in a project."""

from django.apps import AppConfig


class TokensConfig(AppConfig):
    name = "tests.keyrings.tokens"
    label = "tokens"
    default_auto_field = "django.db.models.BigAutoField"
