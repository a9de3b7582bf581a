from tests.projects.ordinary import *  # noqa: F403
from tests.projects.ordinary import INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS += ["tokens", "rest_framework", "keys"]
MIDDLEWARE += ["keys.middleware.APIKeyMiddleware"]
KEYS = {"OWNERS": ["auth.User"]}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["tokens.auth.UserKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["keys.permissions.HasAPIKey"],
}
