from tests.projects.ordinary import *  # noqa: F403
from tests.projects.ordinary import INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS += ["hashed", "rest_framework", "keys"]
MIDDLEWARE += ["keys.middleware.APIKeyMiddleware"]
KEYS = {"SCOPES": {"events:read": "See events.", "events:write": "Send events."}}
