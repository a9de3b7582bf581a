from tests.projects.ordinary import *  # noqa: F403
from tests.projects.ordinary import INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS += ["uptime", "rest_framework", "keys"]
MIDDLEWARE += ["keys.middleware.APIKeyMiddleware"]
KEYS = {
    "SCOPES": {"pings:write": "Say that a job has run.", "pings:read": "See when jobs ran."},
    "OWNERS": ["uptime.Project"],
    "OWNER_IS_ALLOWED": "uptime.rules.owner_is_allowed",
}

LOGIN_URL = "login"
KEYS["DEFAULT_SCOPES"] = ["pings:write"]
KEYS["SELF_SERVICE"] = {
    "SCOPES": ["pings:write", "pings:read"],
    "MOST_KEYS": 3,
    "OWNERS_OF": "uptime.rules.owners_of",
}
