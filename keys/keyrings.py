"""Where keys are stored: in the database, or in the environment. A keyring finds the holder of a token."""

import hashlib
import hmac
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from django.db import Error

from . import environment, scopes
from .actor import Service
from .audit import statements
from .audit.outcomes import RowHandle
from .conf import environment_folder
from .models import APIKey, fields
from .models.audit_event import Holder, Row

__all__ = ["DatabaseKeyring", "EnvironmentKey", "EnvironmentKeyring", "Holder", "Keyring", "Row"]

logger = logging.getLogger("api_keys")


class KeyStoreError(Error):
    """The place where keys are stored cannot be read now. The answer is 503, as if it were the database."""


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


class Keyring(Protocol):
    """A place where keys are stored.

    A keyring whose keys are in the audit log's database may have `find_and_record` too, as `DatabaseKeyring` does.
    """

    def is_configured(self) -> bool:
        """Tell whether the keyring can hold a key."""

    def find(self, token: str) -> Holder | None:
        """Return the holder of the token; None if it is not in this keyring.

        A holder may say in `objection` why it is refused, by a reason of AuditEvent, and in `allowed_ips` from where it
        may be used, as APIKey does. One that has neither is accepted.
        """


@dataclass(frozen=True, eq=False)
class DatabaseKeyring:
    """The keys in the table of `APIKey`."""

    def __eq__(self, other: object) -> bool:
        """Equal guards share their decisions, so what a subclass holds counts too."""
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # The combined statement would bypass a `find` of the project's own.
        first = next(base for base in cls.__mro__ if {"find", "find_and_record"} & vars(base).keys())
        if "find_and_record" not in vars(first):
            cls.find_and_record = None  # type: ignore[assignment]

    def is_configured(self) -> bool:
        return True

    def find(self, token: str) -> APIKey | None:
        return statements.find(str(fields.digest(token)))

    def find_and_record(
        self, token: str, row: Row, may_use: Callable[[Holder], bool]
    ) -> tuple[APIKey | None, RowHandle | None]:
        """Find the key and record its use; return the key, and the handle of the row if one was written.

        The use may be recorded even if `may_use` refuses it: the caller must ask again, and correct the row.
        """
        return statements.find_and_record(str(fields.digest(token)), row, may_use)


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
