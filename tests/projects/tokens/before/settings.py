from tests.projects.ordinary import *  # noqa: F403
from tests.projects.ordinary import INSTALLED_APPS

INSTALLED_APPS += ["tokens", "rest_framework", "rest_framework.authtoken"]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
}
