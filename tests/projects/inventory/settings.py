from tests.projects.ordinary import *  # noqa: F403
from tests.projects.ordinary import INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS += ["inventory", "rest_framework", "keys"]
MIDDLEWARE += ["keys.middleware.APIKeyMiddleware"]
KEYS = {
    "SCOPES": {
        "devices:read": "See devices.",
        "devices:write": "Add, change and delete devices.",
        "devices:retire": "Take devices out of service.",
    },
    "OWNERS": ["auth.User"],
}

LOGIN_URL = "login"
KEYS["SELF_SERVICE"] = {"SCOPES": ["devices:read", "devices:write"]}
