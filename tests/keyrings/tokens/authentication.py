"""The header of the old tokens."""

from keys.authentication import KeyringAuthentication
from keys.keyrings import DatabaseKeyring

from .peppered import OldTokens


class TokenAuthentication(KeyringAuthentication):
    keyword = "Token"
    keyrings = (DatabaseKeyring(), OldTokens())
