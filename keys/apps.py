"""The app's configuration."""

from contextlib import suppress

from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured
from django.db.models.signals import post_migrate, pre_migrate
from django.utils.translation import gettext_lazy as _


class KeysConfig(AppConfig):
    name = "keys"
    verbose_name = _("Keys")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        if self.label != "keys":
            raise ImproperlyConfigured(
                f"{type(self).__qualname__} gives the keys app the label {self.label!r}, but its tables and migrations"
                " go by 'keys': take the label out."
            )
        from . import checks  # noqa: F401  registers them
        from .audit import log_identity
        from .audit.guarded_migrations import make_way, put_back
        from .histories import watch_models
        from .lifecycle import watch_owners
        from .migrations._takeover import look_before_migrating

        pre_migrate.connect(look_before_migrating, sender=self)
        pre_migrate.connect(make_way, sender=self)
        post_migrate.connect(put_back, sender=self)
        post_migrate.connect(log_identity.begin, sender=self)

        watch_models()
        watch_owners()
        if apps.is_installed("drf_spectacular"):
            from . import schema  # noqa: F401  registers its extension
        # Without opentelemetry-api the import fails, and nothing is reported to it.
        with suppress(ModuleNotFoundError):
            from .audit import telemetry  # noqa: F401
