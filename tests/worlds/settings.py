"""An ordinary project that uses keys. A world imports these settings and changes some."""

import os
import tempfile
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

from example_project import settings as example
from example_project.settings import database
from tests.support import runs

NAME = f"{runs.begin()}_{os.environ['KEYS_WORLD']}"


def test_database(name: str) -> dict[str, Any]:
    """Return the settings of a database that only this world has; `DATABASE_URL` names its server."""
    options = deepcopy(database(os.environ.get("DATABASE_URL", "")))
    if options["ENGINE"].endswith("sqlite3"):
        options["NAME"] = Path(tempfile.gettempdir()) / f"{name}.sqlite3"
        options["TEST"] = {"NAME": str(options["NAME"])}
        options["OPTIONS"]["init_command"] += "; PRAGMA synchronous=OFF"
    else:
        options["TEST"] = {"NAME": name}
    return options


SECRET_KEY = "of-no-other-use-than-in-the-matrix-of-worlds-0123456789"
DEBUG = False
ALLOWED_HOSTS = ["*"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "keys",
]

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "keys.middleware.APIKeyMiddleware",
]

ROOT_URLCONF = "tests.worlds.urls"
TEMPLATES: list[dict[str, Any]] = [{**example.TEMPLATES[0], "DIRS": []}]
DATABASES: dict[str, dict[str, Any]] = {"default": test_database(NAME)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"

KEYS: dict[str, Any] = {
    "SCOPES": {"orders:read": "Read orders.", "orders:write": "Change orders.", "keys:introspect": "Ask about keys."},
    "SEAL_AFTER": timedelta(0),
}

LOGGING: dict[str, Any] = {"version": 1, "disable_existing_loggers": False, "loggers": {"api_keys": {"level": "ERROR"}}}
