"""The tests' settings for a server in front of the old tokens; the environment says how its transactions are."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, MIDDLEWARE

ROOT_URLCONF = "tests.keyrings.old_tokens"
_how = os.environ.get("KEYS_TEST_TRANSACTIONS", "")
if "views" in _how:
    DATABASES["default"]["ATOMIC_REQUESTS"] = True
    MIDDLEWARE = [each for each in MIDDLEWARE if not each.startswith("keys.")]
if "repeatable" in _how:
    if DATABASES["default"]["ENGINE"].endswith("postgresql"):
        from psycopg import IsolationLevel

        DATABASES["default"].setdefault("OPTIONS", {})["isolation_level"] = IsolationLevel.REPEATABLE_READ
    else:
        DATABASES["default"].setdefault("OPTIONS", {})["isolation_level"] = "repeatable read"
