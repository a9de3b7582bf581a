"""People with UUIDs look after their keys, without the admin, messages, static files and a slash that is appended.

Everybody has to log in, numbers and dates are German, and times have no zone.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import KEYS, TEMPLATES

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "rest_framework",
    "tests.worlds.members",
    "keys",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "keys.middleware.APIKeyMiddleware",
]
AUTH_USER_MODEL = "members.Member"
ROOT_URLCONF = "tests.worlds.urls_members"
LOGIN_URL = "/log-in"
TEMPLATES = [{**TEMPLATES[0], "OPTIONS": {}}]
LANGUAGE_CODE = "de"
USE_THOUSAND_SEPARATOR = True
USE_TZ = False
TIME_ZONE = "Europe/Berlin"
APPEND_SLASH = False
KEYS = {**KEYS, "DEFAULT_SCOPES": ["orders:read"], "OWNERS": ["members.Member"]}
WITHOUT = {"admin"}

PAGES = "/members/keys/"


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    yield "pages of their keys", look_after_a_key


def look_after_a_key() -> None:
    from django.contrib.auth import get_user_model
    from django.test import Client

    from keys.models import APIKey, AuditEvent

    members: Any = get_user_model()
    anna, ben = (members.objects.create(email=f"{name}@example.org") for name in ("anna", "ben"))
    client = Client()
    assert client.get(PAGES)["Location"] == f"/log-in?next={PAGES}"
    client.force_login(anna)
    assert f"{PAGES}new/" in client.get(PAGES).content.decode()
    filled = {"name": "CI", "scopes": ["orders:read"], "life": 90 * 24 * 60 * 60, "after": 0}
    page = client.post(f"{PAGES}new/", filled).content.decode()
    secrets = {*re.findall(r"\b[0-9a-f]{40}\b", page)}
    assert len(secrets) == 1, page
    key = APIKey.objects.get(key=secrets.pop())
    assert key.owner == anna
    assert AuditEvent.objects.get(api_key=key.pk).actor == "user: anna@example.org"
    for name in ("", "change/", "rotate/", "deactivate/"):
        assert client.get(f"{PAGES}{key.pk}/{name}").status_code == 200
    assert client.post(f"{PAGES}{key.pk}/rotate/", {"grace": 3600}).status_code == 200
    assert client.post(f"{PAGES}{key.pk}/deactivate/", {"reason": ""}).status_code == 302
    assert APIKey.objects.owned_by(anna).accepted().count() == 1
    client.force_login(ben)
    assert client.get(f"{PAGES}{key.pk}/").status_code == 404
