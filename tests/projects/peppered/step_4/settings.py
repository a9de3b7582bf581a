from tests.projects.ordinary import *  # noqa: F403
from tests.projects.ordinary import INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS += ["peppered", "rest_framework", "keys"]
MIDDLEWARE += ["keys.middleware.APIKeyMiddleware"]
KEYS = {"SCOPES": {"readings:read": "See readings."}}
