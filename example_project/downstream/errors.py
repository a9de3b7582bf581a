"""What this service answers when the auth service does not answer as it should."""

import logging
from collections.abc import Callable

import requests
from django.http import HttpRequest, HttpResponse, JsonResponse

from keys.client import KeyRefused

logger = logging.getLogger(__name__)


class AuthServiceErrorMiddleware:
    """Turns an error of the auth service into an answer: 503 where trying again may help, otherwise 502.

    What to look at is said to the caller; addresses and details go to the log alone.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> JsonResponse | None:
        if not isinstance(error, requests.RequestException):
            return None
        status, detail = answer_to(error)
        said = error.response.text[:200] if error.response is not None else ""
        logger.error("%s %s %s", detail, error, said)
        response = JsonResponse({"detail": detail}, status=status)
        if error.response is not None and "Retry-After" in error.response.headers:
            response["Retry-After"] = error.response.headers["Retry-After"]
        return response


def answer_to(error: requests.RequestException) -> tuple[int, str]:
    """Return the status and the words for one error of the auth service."""
    match error:
        case KeyRefused():
            return 502, "The auth service refused this service's key: look at AUTH_API_KEY and AUTH_API_KEY_NEXT."
        case requests.HTTPError(response=requests.Response(status_code=403)):
            return 502, "The key in AUTH_API_KEY lacks a scope: the log names it."
        case requests.HTTPError(response=requests.Response(status_code=429 | 503)):
            return 503, "The auth service is too busy, or down for the moment."
        case requests.HTTPError(response=requests.Response(status_code=status)):
            return 502, f"The auth service answered {status}."
        case requests.Timeout():
            return 503, "The auth service did not answer in time."
        case requests.ConnectionError():
            return 503, "The auth service cannot be reached: look at AUTH_SERVICE_URL."
        case _:
            return 502, "The auth service gave an answer that cannot be read."
