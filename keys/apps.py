"""The app's configuration."""

from contextlib import suppress

from django.apps import AppConfig, apps
from django.utils.translation import gettext_lazy as _


class KeysConfig(AppConfig):
    name = "keys"
    verbose_name = _("Keys")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks  # noqa: F401  registers them

        if apps.is_installed("drf_spectacular"):
            from . import schema  # noqa: F401  the documentation learns of the authentication classes
        # Where opentelemetry-api is not installed, it cannot be imported and nothing listens.
        with suppress(ModuleNotFoundError):
            from .audit import telemetry  # noqa: F401
