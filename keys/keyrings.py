"""Where keys live: in the database, and in the environment. A keyring turns a token into its holder, or nothing."""

import hashlib
import hmac
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from . import environment
from .audit import statements
from .audit.outcomes import RowHandle
from .conf import environment_folder
from .models import APIKey, fields
from .models.audit_event import Holder, Row

__all__ = ["DatabaseKeyring", "EnvironmentKey", "EnvironmentKeyring", "Holder", "Keyring", "Row"]

logger = logging.getLogger("api_keys")


@dataclass(frozen=True)
class EnvironmentKey:
    """The holder of a key that came from an environment variable: `request.auth` of its requests."""

    name: str
    scopes: Sequence[str] = ()
    prefix: str = ""


class Keyring(Protocol):
    """One place where keys live.

    One whose keys lie in the database of the audit log may have `find_and_record` too, as `DatabaseKeyring` has.
    """

    def is_configured(self) -> bool:
        """Tell whether the keyring could hold a key at all."""

    def find(self, token: str) -> Holder | None:
        """Return the holder of the token; None where it is not one of this keyring.

        A holder may say in `objection` why it is refused, by a reason of AuditEvent, and in `allowed_ips` from where it
        may be used, as APIKey does; one that has neither is accepted.
        """


@dataclass(frozen=True)
class DatabaseKeyring:
    """The keys in the table of `APIKey`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # The one statement knows nothing of a look-up that a project has put in the place of this one.
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
        """Find the key and record its use in one go; return the holder, and the handle of the row if one was written.

        A use that `may_use` refuses may have been recorded all the same: the caller asks again, and corrects the row.
        """
        return statements.find_and_record(str(fields.digest(token)), row, may_use)


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
        return f"{environment.PREFIX}{self.variable}"

    def is_enabled(self) -> bool:
        """Tell whether the keyring is switched on. Raises ValueError where `enabled_by` holds no boolean."""
        return self.enabled_by is None or environment.is_on(self.enabled_by, environment_folder())

    def values(self) -> list[str]:
        """Return the values that are accepted now; none where the variable is unset, empty or blank."""
        try:
            if not self.is_enabled():
                return []
        except ValueError:
            # Its value stays out of the log: somebody may have mistaken the variable for that of the key.
            logger.error("%s is not a boolean: the keys of %s are refused.", self.enabled_by, self.variable)
            return []
        return environment.values(self.variable, environment_folder())

    def is_configured(self) -> bool:
        return bool(self.values())

    def find(self, token: str) -> EnvironmentKey | None:
        presented = hashlib.sha256(token.encode()).digest()
        # Every value is compared, in constant time and by digests, so that time tells neither which nor how long.
        matches = [
            hmac.compare_digest(presented, hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest())
            for value in self.values()
        ]
        return EnvironmentKey(self.name, tuple(self.scopes)) if any(matches) else None
