"""Users look after keys that are in another database than they are, by an API in the ways of a large project."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import DATABASES, KEYS, MIDDLEWARE, NAME, test_database

if TYPE_CHECKING:
    from django.test import Client

DATABASES["keys_db"] = test_database(f"{NAME}_keys")
# Requests are in transactions of the users' database, and not of the keys', or of both.
DATABASES["default"]["ATOMIC_REQUESTS"] = True
DATABASE_ROUTERS = ["tests.support.routers.KeysElsewhere"]
MIDDLEWARE = [*MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
ROOT_URLCONF = "tests.worlds.urls_own_keys"
USE_TZ = False
TIME_ZONE = "America/New_York"
USE_THOUSAND_SEPARATOR = True
LANGUAGE_CODE = "de"
KEYS = {**KEYS, "OWNERS": ["auth.User"], "SELF_SERVICE": {"SCOPES": ["orders:read"], "MOST_KEYS": 3}}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "keys.authentication.APIKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.LimitOffsetPagination",
    "PAGE_SIZE": 2,
    "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.NamespaceVersioning",
    "DEFAULT_FILTER_BACKENDS": ["rest_framework.filters.SearchFilter", "rest_framework.filters.OrderingFilter"],
    "DEFAULT_THROTTLE_CLASSES": ["keys.throttling.APIKeyRateThrottle"],
    "NON_FIELD_ERRORS_KEY": "errors",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
API = "/v1/keys/"


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    yield "own keys", own_keys
    yield "nobody else's", nobody_elses
    yield "many at once", many_at_once


def browser(name: str) -> "Client":
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client(raise_request_exception=False)
    client.force_login(User.objects.get_or_create(username=name)[0])
    return client


def send(client: "Client", method: str, path: str, **body: Any) -> tuple[int, Any]:
    answer = getattr(client, method)(f"{API}{path}", body, content_type="application/json")
    return answer.status_code, answer.json() if answer.content else None


def own_keys() -> None:
    from datetime import datetime, timedelta

    from django.test import Client
    from django.utils import timezone

    from keys import moments
    from keys.models import APIKey, AuditEvent

    anna = browser("anna")
    end = timezone.now() + timedelta(days=5)
    status, made = send(anna, "post", "", name="A", scopes=["orders:read"], expires_at=moments.written(end))
    assert status == 201, made
    assert APIKey.objects.get(pk=made["id"]).expires_at == end
    assert Client(headers={"X-API-Key": made["key"]}).get("/orders/").status_code == 200
    status, changed = send(anna, "patch", f"{made['id']}/", name="B")
    assert (status, changed["name"], changed["last_used_at"] is not None) == (200, "B", True), changed
    assert datetime.fromisoformat(changed["expires_at"]) == end
    status, successor = send(anna, "post", f"{made['id']}/rotate/", grace=60)
    assert status == 201, successor
    assert send(anna, "post", f"{made['id']}/rotate/")[0] == 409
    listed = anna.get(f"{API}?ordering=-owner&search=x&limit=1").json()
    assert (listed["count"], len(listed["results"])) == (2, 1), listed
    assert [one["uses"] for one in anna.get(f"{API}{made['id']}/usage/").json()["clients"]] == [1]
    assert send(anna, "post", f"{successor['id']}/deactivate/", reason="verloren")[0] == 200
    assert Client(headers={"X-API-Key": successor["key"]}).get("/orders/").status_code == 401
    assert {*AuditEvent.objects.filter(method="", owner=made["owner"]).values_list("actor", flat=True)} == {
        "user: anna"
    }


def nobody_elses() -> None:
    from django.test import Client

    from keys.models import APIKey

    ben = browser("ben")
    _, made = send(ben, "post", "", name="B", scopes=["orders:read"])
    anna = browser("anna")
    for method, path in (("get", ""), ("patch", ""), ("post", "rotate/"), ("post", "deactivate/"), ("get", "usage/")):
        assert send(anna, method, f"{made['id']}/{path}")[0] == 404, path
        by_key = Client(headers={"X-API-Key": made["key"]})
        assert send(by_key, method, f"{made['id']}/{path}")[0] == 403, path
        assert send(Client(), method, f"{made['id']}/{path}")[0] == 401, path
    assert APIKey.objects.get(pk=made["id"]).state == "active"


def many_at_once() -> None:
    from concurrent.futures import ThreadPoolExecutor

    from django.db import connections

    carla = [browser("carla") for _ in range(8)]

    def make(client: "Client") -> tuple[int, Any]:
        try:
            return send(client, "post", "", name="C")
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(carla)) as pool:
        answers = [*pool.map(make, carla)]
    assert sorted(status for status, _ in answers) == [201] * 3 + [400] * 5, answers
    assert {*next(said for status, said in answers if status == 400)} == {"errors"}
