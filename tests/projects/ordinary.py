"""What `django-admin startproject` writes, with a database of the project's own on the server of `DATABASE_URL`."""

import os
from pathlib import Path
from typing import Any

from tests.worlds.settings import test_database

NAME = os.environ["KEYS_WORLD"]
DATABASES: dict[str, dict[str, Any]] = {"default": test_database(f"{os.environ['KEYS_TEST_RUN']}_{NAME}")}
if "KEYS_DATABASE_IS_MADE" in os.environ:  # by another process, as the database of a test
    DATABASES["default"]["NAME"] = DATABASES["default"]["TEST"]["NAME"]

SECRET_KEY = "of-no-other-use-than-in-a-project-of-the-tests-0123456789"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = f"{NAME}.urls"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [Path(__file__).resolve().parent / NAME / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STATIC_URL = "static/"
LOGIN_REDIRECT_URL = "/"
LOGGING: dict[str, Any] = {"version": 1, "disable_existing_loggers": False, "loggers": {"api_keys": {"level": "ERROR"}}}
