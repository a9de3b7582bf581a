"""Registers the keys, as these packages want it: before anything is asked of the models."""

import reversion
from simple_history import register

from keys.models import APIKey

reversion.register(APIKey)
register(APIKey, app="tests.worlds.keys_tracked")
