"""The admin pages to create, rotate and end keys, and to read the log."""

from .audit_admin import AuditEventAdmin
from .key_admin import APIKeyAdmin
from .owned_keys import OwnedKeysMixin

__all__ = ["APIKeyAdmin", "AuditEventAdmin", "OwnedKeysMixin"]
