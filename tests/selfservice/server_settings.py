"""The tests' settings for a server of the API, with every request in a transaction, as races are harder there."""

from tests.selfservice.limits import RULES
from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, KEYS

DATABASES["default"]["ATOMIC_REQUESTS"] = True
ROOT_URLCONF = "tests.selfservice.api_urls"
KEYS = {**KEYS, "OWNERS": ["auth.User"], "SELF_SERVICE": RULES}
