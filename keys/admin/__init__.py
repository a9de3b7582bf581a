"""The pages at which people make, rotate and end keys, and read the log."""

from .audit_admin import AuditEventAdmin
from .key_admin import APIKeyAdmin

__all__ = ["APIKeyAdmin", "AuditEventAdmin"]
