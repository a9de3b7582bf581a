"""The auth service as this backend calls it. Whatever goes wrong is raised as a `requests.RequestException`."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import requests
from django.conf import settings
from django.http import HttpRequest

from keys.calling.introspection import Introspection
from keys.client import APIKeySession


@dataclass(frozen=True)
class Greetings:
    """What to say to each user, by id, and the ids that belong to nobody."""

    sentences: dict[int, str]
    unknown: list[int]


@cache
def session() -> APIKeySession:
    """The one session of this process, so that all threads share its connections and what it learns of the keys."""
    # mypy knows the settings of the other service alone
    return APIKeySession(settings.AUTH_SERVICE_URL, settings.AUTH_API_KEY)  # type: ignore[misc]


def greetings_for(ids: Iterable[int], request_id: str = "") -> Greetings:
    """Look users up in one batch, with the service's own key, and return what to say to them."""
    answer = session().post("api/v1/tts/users-info/", json={"ids": list(ids)}, headers=_traced(request_id))
    answer.raise_for_status()
    found = answer.json()
    sentences = {user["id"]: f"Hello {user['first_name']} {user['last_name']}." for user in found["users"]}
    return Greetings(sentences, found["missing"])


def details_of(user_id: int, request: HttpRequest) -> requests.Response:
    """Ask for a user's details in the name of the user whose JWT the request carries.

    401, 403 and 404 are answers about that user, and returned; ValueError if the request carries no JWT.
    """
    headers = _traced(request.headers.get("X-Request-ID", ""))
    answer = session().forward_user(request).get(f"api/v1/users/{user_id}/", headers=headers)
    if answer.status_code not in (401, 403, 404):
        answer.raise_for_status()
    return answer


def asked_about(key: str, request: HttpRequest) -> Introspection:
    """Ask about a key that was presented to this service, which keeps none."""
    sender, request_id = request.META.get("REMOTE_ADDR"), request.headers.get("X-Request-ID")
    return session().introspect(key, address=sender, request_id=request_id)


def _traced(request_id: str) -> dict[str, str]:
    """Return the header by which the auth service's audit log names the request that caused this one."""
    return {"X-Request-ID": request_id} if request_id else {}
