"""What a keyring is: the protocol of a place where keys are stored."""

from typing import Protocol

from django.db import Error

from ..models.audit_event import Holder


class KeyStoreError(Error):
    """The place where keys are stored cannot be read now. The answer is 503, as if it were the database."""


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
