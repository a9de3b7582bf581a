"""The keys in environment variables."""

import hashlib
import hmac
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from .. import environment, scopes
from ..actor import Service
from ..conf import environment_folder
from .protocol import KeyStoreError

logger = logging.getLogger("api_keys")


@dataclass(frozen=True)
class EnvironmentKey(Service):
    """The holder of a key from an environment variable: `request.auth` of its requests."""

    name: str
    scopes: Sequence[str] = ()
    prefix: str = ""
    owner_ref: str = ""

    def has_scope(self, scope: str) -> bool:
        """Tell whether the holder has the scope, by name or by a wildcard."""
        return scopes.grants(self.scopes, scope)

    @property
    def actor_name(self) -> str:
        return self.name if self.name.startswith(environment.PREFIX) else f"key:{self.name}"


@dataclass(frozen=True, eq=False)
class EnvironmentKeyring:
    """The keys in one variable, comma-separated, read with python-decouple (environment, then `.env`).

    `enabled_by` names a boolean variable that disables the keyring if it is false, to end the transition from a
    shared key. `scopes` are what the holder may do.
    """

    variable: str
    enabled_by: str | None = None
    scopes: Sequence[str] = ()

    @property
    def name(self) -> str:
        """The name of this variable's keys in the audit log."""
        return f"{environment.PREFIX}{self.variable}"

    def is_enabled(self) -> bool:
        """Tell whether the keyring is enabled. Raises ValueError if `enabled_by` holds no boolean."""
        return self.enabled_by is None or environment.is_on(self.enabled_by, environment_folder())

    def values(self) -> list[str]:
        """Return the values that are accepted now; none if the variable is unset, empty or blank.

        Raises KeyStoreError.
        """
        try:
            return environment.values(self.variable, environment_folder()) if self.is_enabled() else []
        except ValueError:
            # The value is not logged: somebody may have put a key into the wrong variable.
            logger.error("%s is not a boolean: the keys of %s are refused.", self.enabled_by, self.variable)
            return []
        except environment.UnreadableFileError as error:
            logger.error("%s", error)
            raise KeyStoreError(str(error)) from None

    def is_configured(self) -> bool:
        try:
            return bool(self.values())
        except KeyStoreError:
            return True  # nobody knows; `find` raises for the keys that are presented

    def find(self, token: str) -> EnvironmentKey | None:
        presented = hashlib.sha256(token.encode()).digest()
        # Compare every value in constant time, by digest, so that the time tells neither which matches nor its length.
        matches = [
            hmac.compare_digest(presented, hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest())
            for value in self.values()
        ]
        return EnvironmentKey(self.name, tuple(self.scopes)) if any(matches) else None
