from tests.projects.ordinary import *  # noqa: F403
from tests.projects.ordinary import INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS += ["plain", "keys"]
MIDDLEWARE += ["keys.middleware.APIKeyMiddleware"]
KEYS = {
    "SCOPES": {"orders:read": "See orders."},
    "REFUSAL_RESPONSE": "plain.answers.refusal",
}
