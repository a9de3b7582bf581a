"""The middleware is listed twice."""

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import MIDDLEWARE

MIDDLEWARE = ["keys.middleware.APIKeyMiddleware", *MIDDLEWARE]
EXPECTED_CHECKS = {"keys.W018"}
