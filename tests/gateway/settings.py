"""The tests' settings, for the example behind one proxy."""

from tests.settings import *  # noqa: F403
from tests.settings import KEYS

ROOT_URLCONF = "example_project.urls"
KEYS = {**KEYS, "TRUSTED_PROXIES": 1}
# The manual's other services.
KEYS["SCOPES"] = {**KEYS["SCOPES"], "invoices:read": "Read invoices.", "invoices:write": "Write invoices."}
