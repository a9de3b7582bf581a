"""Where keys live: in the database, and in the environment. A keyring turns a token into its holder, or nothing."""

import hashlib
import hmac
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from decouple import AutoConfig, strtobool
from django.conf import settings

from . import fields, statements
from .models import APIKey
from .statements import Row

logger = logging.getLogger("api_keys")

# What the names of keys from the environment begin with.
ENVIRONMENT = "env:"
# Of a secret in the environment, which somebody may have made up.
MIN_LENGTH = 32


@dataclass(frozen=True)
class EnvironmentKey:
    """The holder of a key that came from an environment variable: `request.auth` of its requests."""

    name: str
    scopes: Sequence[str] = ()
    prefix: str = ""


Holder = APIKey | EnvironmentKey


class Keyring(Protocol):
    """One place where keys live."""

    def is_configured(self) -> bool:
        """Tell whether the keyring could hold a key at all."""

    def find(self, token: str, row: Row | None = None) -> tuple[Holder | None, int | None]:
        """Return the holder of the token, and the id of the audit row where the keyring wrote it at once."""


@dataclass(frozen=True)
class DatabaseKeyring:
    """The keys in the table of `APIKey`."""

    def is_configured(self) -> bool:
        return True

    def find(self, token: str, row: Row | None = None) -> tuple[Holder | None, int | None]:
        digest = str(fields.digest(token))
        if row is None:
            return statements.find(digest), None
        return statements.find_and_record(digest, row, row["at"])


@dataclass(frozen=True, eq=False)
class EnvironmentKeyring:
    """One variable, read with python-decouple (environment, then `.env`), of one or several comma-separated values.

    `enabled_by` names a boolean variable that switches the keyring off when it is false: how a transition
    from a shared key ends. `scopes` are what the holder of the key may do.
    """

    variable: str
    enabled_by: str | None = None
    scopes: Sequence[str] = ()

    @property
    def name(self) -> str:
        """What the audit log calls a key of this variable."""
        return f"{ENVIRONMENT}{self.variable}"

    def is_enabled(self) -> bool:
        """Tell whether the keyring is switched on. Raises ValueError where `enabled_by` holds no boolean."""
        if self.enabled_by is None:
            return True
        text = str(_environment()(self.enabled_by, default="true")).strip()
        return text != "" and bool(strtobool(text))

    def values(self) -> list[str]:
        """Return the values that are accepted now; none where the variable is unset, empty or blank."""
        try:
            if not self.is_enabled():
                return []
        except ValueError:
            # Its value stays out of the log: somebody may have mistaken the variable for that of the key.
            logger.error("%s is not a boolean: the keys of %s are refused.", self.enabled_by, self.variable)
            return []
        text = str(_environment()(self.variable, default=""))
        return [value for part in text.split(",") if (value := part.strip())]

    def is_configured(self) -> bool:
        return bool(self.values())

    def find(self, token: str, row: Row | None = None) -> tuple[Holder | None, int | None]:
        presented = hashlib.sha256(token.encode()).digest()
        # Every value is compared, in constant time and by digests, so that time tells neither which nor how long.
        matches = [
            hmac.compare_digest(presented, hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest())
            for value in self.values()
        ]
        return (EnvironmentKey(self.name, tuple(self.scopes)), None) if any(matches) else (None, None)


def _environment() -> AutoConfig:
    # Left alone, decouple would look for `.env` beside the file that asks: this one, in site-packages.
    return _environment_of(str(getattr(settings, "BASE_DIR", Path.cwd())))


@cache
def _environment_of(folder: str) -> AutoConfig:
    return AutoConfig(search_path=folder)
