"""What a keyring is: the protocol of a place where keys are stored."""

from typing import Protocol

from django.db import Error

from ..models.audit_event import Holder


class KeyStoreError(Error):
    """The place where keys are stored cannot be read now. The answer is 503, as if it were the database."""


class Keyring(Protocol):
    """A place where keys are stored. Keyrings that hold the same must be equal: equal guards decide once.

    It may have `find_and_record(token, row, may_use)` too, if its keys are in the audit log's database, as
    `DatabaseKeyring` does; and `adopt(token, holder)`, as `LegacyKeyring` does: it is asked before a use that is
    accepted, and returns who holds the key from now on, or None if nobody does any more.
    """

    def is_configured(self) -> bool:
        """Tell whether the keyring can hold a key."""

    def find(self, token: str) -> Holder | None:
        """Return the holder of the token; None if it is not in this keyring. Changes nothing.

        A holder may say in `objection` why it is refused, by a reason of AuditEvent, and in `allowed_ips` from where it
        may be used, as APIKey does. One that has neither is accepted. Raises KeyStoreError if nobody can say now.
        """
