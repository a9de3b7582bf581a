"""The app's settings: `settings.KEYS`, read on first use, and again when a test changes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from django.conf import settings
from django.core.signals import setting_changed


@dataclass(frozen=True)
class Options:
    """Every option of the app, with its default."""

    SCOPES: Mapping[str, str] = field(default_factory=dict)
    DEFAULT_SCOPES: Sequence[str] = field(default_factory=list)
    PREFIX: str = ""
    TRUSTED_PROXIES: int = 0
    AUDIT_FAIL_OPEN: bool = False
    RATE_FAIL_OPEN: bool = False
    ROTATION_GRACE: timedelta = timedelta(days=7)
    OUTCOME_DELAY: timedelta = timedelta(milliseconds=50)
    SEAL_AFTER: timedelta = timedelta(hours=1)
    AUDIT_SINK: str = "database"
    AUDIT_BACKLOG_LIMIT: int = 1_000_000


DEFAULTS: dict[str, Any] = {option.name: getattr(Options(), option.name) for option in fields(Options)}


class _Settings:
    """Reads `settings.KEYS` on first access, and then is as fast as any attribute."""

    def __getattr__(self, name: str) -> Any:
        if name not in DEFAULTS:
            raise AttributeError(name)
        self.__dict__.update({**DEFAULTS, **getattr(settings, "KEYS", {})})
        return self.__dict__[name]


conf = cast(Options, _Settings())


def environment_folder() -> str:
    """Return the folder of the `.env` file: the project's `BASE_DIR`, else the working directory."""
    return str(getattr(settings, "BASE_DIR", Path.cwd()))


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == "KEYS":
        vars(conf).clear()


setting_changed.connect(_forget)
