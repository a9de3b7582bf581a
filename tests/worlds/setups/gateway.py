"""A gateway beside everything that could make its answers into others: envelopes, transactions, logins, redirects."""

from collections.abc import Callable, Iterator
from typing import Any

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import DATABASES, KEYS, MIDDLEWARE

DATABASES["default"]["ATOMIC_REQUESTS"] = True
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.cache.UpdateCacheMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    *MIDDLEWARE,
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.middleware.cache.FetchFromCacheMiddleware",
]
ROOT_URLCONF = __name__
USE_TZ = False
TIME_ZONE = "Europe/Berlin"
LANGUAGE_CODE = "de"
USE_THOUSAND_SEPARATOR = True
SESSION_SAVE_EVERY_REQUEST = True
# What others ask comes without TLS here, and what a proxy asks with the header that it sends.
SECURE_SSL_REDIRECT = True
SECURE_REDIRECT_EXEMPT = [r"^(?!gateway/)"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
REST_FRAMEWORK = {"EXCEPTION_HANDLER": "tests.worlds.setups.envelope_200.wrap"}
KEYS = {**KEYS, "REFUSAL_RESPONSE": f"{__name__}.envelope", "TRUSTED_PROXIES": 1}
# Of views of Django REST framework, by its handler, and of others, by the project's function.
STATUSES = OWN_STATUSES = {401: 200, 403: 200}


def envelope(request: Any, status: int, detail: str) -> Any:
    from django.http import JsonResponse

    answer = JsonResponse({"ok": False, "why": str(detail)})
    answer.set_cookie("refused", "1")
    return answer


def __getattr__(name: str) -> Any:
    """Make the addresses once the apps are there."""
    if name != "urlpatterns":
        raise AttributeError(name)
    from django.urls import include, path

    from keys.gateway import ForwardAuthView

    return [path("gateway/", ForwardAuthView.as_view()), path("", include("tests.worlds.urls"))]


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    from django.test import Client

    from keys.models import APIKey, AuditEvent
    from tests.support.tables import renamed
    from tests.worlds.requests import rows

    asked = {
        "X-Forwarded-Proto": "https", "X-Forwarded-Method": "GET", "X-Forwarded-Uri": "/a?b", "X-Forwarded-For": "::1",
        "If-None-Match": "*", "Accept-Encoding": "gzip", "Accept-Language": "fr",
    }  # fmt: skip

    def ask(token: Any, query: str = "", **headers: str) -> int:
        client = Client(raise_request_exception=False, headers={**asked, "X-API-Key": str(token), **headers})
        answer = client.post(f"/gateway/{query}")
        assert not [*answer.cookies.values()]
        assert answer["Cache-Control"] == "no-store"
        assert ("X-Key-Refusal" in answer) != ("X-Key-Name" in answer) == (answer.status_code == 200)
        return answer.status_code

    def answers() -> None:
        good = APIKey.objects.create(name="Tür", scopes=["orders:read"], rate="2/day")
        gone = APIKey.objects.create(name="gone", is_active=False)
        before = rows()
        told = [ask(good.key, "?scope=orders:read"), ask(good.key, "?scope=orders:write"), ask(good.key, "?scope=x")]
        told += [ask(gone.key), ask("0" * 40), ask("x" * 129), ask(good.key, **{"X-Original-URI": "/lie"})]
        told += [ask(good.key), ask(good.key)]
        assert told == [200, 403, 403, 401, 401, 401, 400, 200, 429], told
        reasons = [reason for _, reason, _ in rows()[len(before) :]]
        assert reasons == ["", "scope", "scope", "inactive", "unknown", "malformed", "conflict", "", "rate"], reasons
        assert [status for *_, status in rows()[len(before) :]] == told
        good.deactivate()
        assert ask(good.key) == 401

    def outage() -> None:
        key = APIKey.objects.create(name="patient")
        for model in (APIKey, AuditEvent):
            with renamed(model._meta.db_table):
                assert ask(key.key) == 503
        assert ask(key.key) == 200

    def without_tls() -> None:
        key = APIKey.objects.create(name="plain")
        answer = Client(headers={**asked, "X-Forwarded-Proto": "http", "X-API-Key": str(key.key)}).get("/gateway/")
        assert answer.status_code == 301  # which no proxy takes for a yes

    yield "answers to a proxy", answers
    yield "an outage", outage
    yield "no TLS", without_tls
