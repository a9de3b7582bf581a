"""Keys of another system that cannot be imported, because what is kept of them is no plain digest."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from .. import moments, scopes
from ..actor import Service
from ..models.audit_event import AuditEvent

Reason = AuditEvent.Reason


@dataclass(frozen=True)
class LegacyKey(Service):
    """A key as the other system knows it: `request.auth` of its requests until it is adopted.

    `ref` names the record there, such as its primary key, and is never the secret.
    """

    ref: str
    name: str
    scopes: Sequence[str] = ()
    owner_ref: str = ""
    is_active: bool = True
    expires_at: datetime | None = None
    allowed_ips: Sequence[str] = ()
    prefix: str = ""
    created_at: datetime | None = None

    def has_scope(self, scope: str) -> bool:
        """Tell whether the holder has the scope, by name or by a wildcard."""
        return scopes.grants(self.scopes, scope)

    @property
    def objection(self) -> str:
        """Why the key is refused, by a reason of AuditEvent; empty if it is accepted."""
        if not self.is_active:
            return Reason.INACTIVE
        return Reason.EXPIRED if self.expires_at is not None and moments.has_passed(self.expires_at) else ""

    @property
    def actor_name(self) -> str:
        return f"key:{self.name}"


class LegacyKeyring:
    """The keys of another system. Subclass it, say how a record is found, and put it behind `DatabaseKeyring()`.

    `source` names the system. With `adopts`, a key becomes ours at its first use.
    """

    source: ClassVar[str] = ""
    adopts: ClassVar[bool] = False

    def is_configured(self) -> bool:
        return True

    def look_up(self, token: str) -> LegacyKey | None:
        """Return the other system's record of this token; None if it has none. To be written by the project."""
        raise NotImplementedError

    def records(self) -> Iterable[LegacyKey]:
        """Return every record of the other system, for the report of those that have not come yet."""
        raise NotImplementedError

    def find(self, token: str) -> LegacyKey | None:
        return self.look_up(token)
