"""The tests' settings with every view in a transaction, for servers; Django allows no async views with it."""

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

DATABASES["default"]["ATOMIC_REQUESTS"] = True
