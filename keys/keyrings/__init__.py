"""Where keys are stored. A keyring finds the holder of a token."""

from ..models.audit_event import Holder, Row
from .database import DatabaseKeyring
from .environment import EnvironmentKey, EnvironmentKeyring
from .legacy import LegacyKey, LegacyKeyring
from .protocol import Keyring, KeyStoreError

__all__ = [
    "DatabaseKeyring",
    "EnvironmentKey",
    "EnvironmentKeyring",
    "Holder",
    "KeyStoreError",
    "Keyring",
    "LegacyKey",
    "LegacyKeyring",
    "Row",
]
