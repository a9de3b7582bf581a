"""The app's settings: one object over `settings.KEYS`, read when first asked, again when a test changes them."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

DEFAULTS: dict[str, Any] = {
    "SCOPES": {},
    "DEFAULT_SCOPES": [],
    "PREFIX": "",
    "TRUSTED_PROXIES": 0,
    "AUDIT_FAIL_OPEN": False,
    "RATE_FAIL_OPEN": False,
    "ROTATION_GRACE": timedelta(days=7),
    "OUTCOME_DELAY": timedelta(milliseconds=50),
    "SEAL_AFTER": timedelta(hours=1),
    "AUDIT_SINK": "database",
    "AUDIT_BACKLOG_LIMIT": 1_000_000,
}


class Conf:
    """Every option of the app, with its default where `settings.KEYS` is silent."""

    SCOPES: Mapping[str, str]
    DEFAULT_SCOPES: Sequence[str]
    PREFIX: str
    TRUSTED_PROXIES: int
    AUDIT_FAIL_OPEN: bool
    RATE_FAIL_OPEN: bool
    ROTATION_GRACE: timedelta
    OUTCOME_DELAY: timedelta
    SEAL_AFTER: timedelta
    AUDIT_SINK: str
    AUDIT_BACKLOG_LIMIT: int

    def __getattr__(self, name: str) -> Any:
        if name not in DEFAULTS:
            raise AttributeError(name)
        self.__dict__.update({**DEFAULTS, **getattr(settings, "KEYS", {})})
        return self.__dict__[name]

    def reload(self) -> None:
        """Forget what was read, so that the next question reads the settings again."""
        self.__dict__.clear()


conf = Conf()


def _reload(*, setting: str, **kwargs: object) -> None:
    if setting == "KEYS":
        conf.reload()


setting_changed.connect(_reload)
