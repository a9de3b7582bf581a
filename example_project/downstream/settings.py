"""Settings of the calling service: a text-to-speech backend in miniature, which keeps no users of its own.

Read by python-decouple, from the environment first and then from `.env` in or above the project's folder, as the
session reads the next key.
"""

from pathlib import Path
from typing import Any

from decouple import AutoConfig, Csv

BASE_DIR = Path(__file__).resolve().parent.parent.parent

config = AutoConfig(search_path=BASE_DIR)

DEBUG: bool = config("DEBUG", default=True, cast=bool)
ALLOWED_HOSTS: list[str] = config("ALLOWED_HOSTS", default="", cast=Csv())

# AUTH_API_KEY_NEXT is not read here: the session asks for it when AUTH_API_KEY is refused, so that a value that has
# been written to `.env` by then counts without a restart.
AUTH_SERVICE_URL: str = config("AUTH_SERVICE_URL", default="http://127.0.0.1:8000")
AUTH_API_KEY: str = config("AUTH_API_KEY", default="")

INSTALLED_APPS = ["example_project.downstream"]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "example_project.downstream.errors.AuthServiceErrorMiddleware",
]

ROOT_URLCONF = "example_project.downstream.urls"
WSGI_APPLICATION = "example_project.downstream.wsgi.application"
DATABASES: dict[str, Any] = {}
USE_TZ = True
TIME_ZONE = "UTC"
