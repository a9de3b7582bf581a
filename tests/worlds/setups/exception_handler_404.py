"""An exception handler hides what is forbidden: 403 becomes 404."""

from typing import Any

from tests.worlds.settings import *  # noqa: F403

REST_FRAMEWORK = {"EXCEPTION_HANDLER": f"{__name__}.hide"}
STATUSES = {403: 404}


def hide(error: Exception, context: dict[str, Any]) -> Any:
    from rest_framework.exceptions import NotFound, PermissionDenied
    from rest_framework.views import exception_handler

    return exception_handler(NotFound() if isinstance(error, PermissionDenied) else error, context)
