"""The tables: keys and where they came from, the audit log, and its seals."""

from .api_key import APIKey, RotationError
from .audit_event import AuditEvent
from .audit_log import AuditLog
from .audit_seal import AuditSeal
from .key_origin import KeyOrigin
from .stale import StaleKeyError

__all__ = ["APIKey", "AuditEvent", "AuditLog", "AuditSeal", "KeyOrigin", "RotationError", "StaleKeyError"]
