"""The rules of the tests, for their own process and for servers."""

from datetime import timedelta
from typing import Any

RULES: dict[str, Any] = {"SCOPES": ["users:read", "tracking:*"], "MOST_KEYS": 3, "LONGEST_LIFE": timedelta(days=100)}
