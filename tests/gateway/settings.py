"""The tests' settings, for the example behind one proxy."""

from tests.settings import *  # noqa: F403
from tests.settings import KEYS

ROOT_URLCONF = "example_project.urls"
# The scopes of the manual's additions to the example's configurations.
INVOICES = {"invoices:read": "Read invoices.", "invoices:write": "Change invoices."}
KEYS = {**KEYS, "SCOPES": {**KEYS["SCOPES"], **INVOICES}, "TRUSTED_PROXIES": 1}
