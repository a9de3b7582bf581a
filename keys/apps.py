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
        from .histories import watch_models

        watch_models()
        if apps.is_installed("drf_spectacular"):
            from . import schema  # noqa: F401  registers its extension
        # Without opentelemetry-api the import fails, and nothing is reported to it.
        with suppress(ModuleNotFoundError):
            from .audit import telemetry  # noqa: F401
