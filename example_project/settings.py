"""Settings of the example: an auth service that guards its internal endpoints with django-service-keys.

Everything that differs from one deployment to the next is read by python-decouple, from the environment first and
then from `.env` in the project's folder. `.env.example` lists the variables.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from decouple import Csv
from django.core.exceptions import ImproperlyConfigured

from keys.environment import config_in

BASE_DIR = Path(__file__).resolve().parent.parent

config = config_in(str(BASE_DIR))

# A fresh checkout has to run without any configuration, so DEBUG is on unless it is turned off. What keeps a forgotten
# setting from going public is ALLOWED_HOSTS: while it is empty, Django under DEBUG answers to localhost alone.
DEBUG: bool = config("DEBUG", default=True, cast=bool)
ALLOWED_HOSTS: list[str] = config("ALLOWED_HOSTS", default="", cast=Csv())

# JSON Web Tokens are signed with this as well: whoever knows it can log in as anybody.
SECRET_KEY: str = config("SECRET_KEY", default="")
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured("SECRET_KEY is not set. Without DEBUG it has no default: set it in the environment.")
    SECRET_KEY = "django-insecure-for-development-only-and-known-to-everybody"  # noqa: S105

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "keys",
    "example_project.accounts",
    "example_project.tracking",
    "example_project.jobs",
    "example_project.demo",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "keys.middleware.APIKeyMiddleware",
]

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
ASGI_APPLICATION = "example_project.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "example_project" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]


def database(url: str) -> dict[str, Any]:
    """What DATABASES needs for `url`; for an empty one, a SQLite file in the project's folder."""
    if not url:
        options: dict[str, Any] = {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}
    else:
        options = {**dj_database_url.parse(url, conn_max_age=60, conn_health_checks=True)}
    if options["ENGINE"] == "django.db.backends.sqlite3":
        # Each guarded request writes to the audit log. With WAL, writers do not block readers; a transaction that is
        # IMMEDIATE waits for its turn, where a DEFERRED one that turns into a writer fails with "database is locked".
        options["OPTIONS"] = {
            "init_command": "PRAGMA journal_mode=WAL",
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
        }
    return options


def cache(url: str) -> dict[str, Any]:
    """What CACHES needs for `url`; for an empty one, the memory of this process."""
    match urlsplit(url).scheme:
        case "" | "locmem":
            return {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
        case "redis" | "rediss":
            # A Redis that is frozen, or cut off, would otherwise keep each request that has a rate waiting for long.
            patience = {"socket_connect_timeout": 1, "socket_timeout": 2}
            return {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": url, "OPTIONS": patience}
        case scheme:
            raise ImproperlyConfigured(f"CACHE_URL begins with locmem://, redis:// or rediss://, not with {scheme}://.")


DATABASES = {"default": database(config("DATABASE_URL", default=""))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CACHES = {"default": cache(config("CACHE_URL", default=""))}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "keys_pages:list"
LOGOUT_REDIRECT_URL = LOGIN_URL

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"

SESSION_COOKIE_SECURE = not DEBUG
CSRF_COOKIE_SECURE = not DEBUG

REST_FRAMEWORK = {
    # A view that names no guard of its own is closed to everything but a key.
    "DEFAULT_AUTHENTICATION_CLASSES": ["keys.authentication.APIKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["keys.permissions.HasAPIKey"],
    "DEFAULT_THROTTLE_CLASSES": ["keys.throttling.APIKeyRateThrottle"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    # JSON alone: another site's form cannot send it, so it cannot log a visitor's browser in as somebody else.
    "DEFAULT_PARSER_CLASSES": ["example_project.parsers.ShallowJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "keys.schema.AutoSchema",
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Auth service",
    "DESCRIPTION": "The example of django-service-keys.",
    "VERSION": "1",
    # Open to everybody, so that there is no key to be looked at.
    "SERVE_AUTHENTICATION": [],
    "SERVE_INCLUDE_SCHEMA": False,
    # The pages' scripts come from here and not from somebody else's server.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

SIMPLE_JWT = {"ACCESS_TOKEN_LIFETIME": timedelta(hours=1)}

KEYS = {
    "SCOPES": {
        "users:read": "Read the details of users.",
        "employees:read": "Read the details of employees.",
        "tracking:write": "Send clicks to the tracking ingest.",
        "keys:introspect": "Ask whether a key that was presented elsewhere is good.",
        "orders:read": "Read orders, in a service behind the gateway.",
    },
    # What a key gets when nobody names its scopes. Writing is never among them.
    "DEFAULT_SCOPES": ["users:read", "employees:read"],
    # How many proxies stand before this service, the gateway among them. Their X-Forwarded- headers are believed.
    "TRUSTED_PROXIES": config("TRUSTED_PROXIES", default=0, cast=int),
    # Users have keys of their own, at /account/keys/ and by the API, and look after those of their department.
    "OWNERS": ["auth.User", "accounts.Department"],
    "SELF_SERVICE": {"MOST_KEYS": 5, "OWNERS_OF": "example_project.accounts.owners.owners_of"},
    # Or a Redis stream, from which `manage.py keys_ship` brings the audit log into PostgreSQL.
    "AUDIT_SINK": config("AUDIT_SINK", default="database"),
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {"api_keys": {"handlers": ["stderr"], "level": "INFO"}},
}
