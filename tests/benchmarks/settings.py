"""Settings of one guarded service. Two environment variables, set by whoever starts the process, choose which."""

import os
from typing import Any

import dj_database_url

from tests.benchmarks.guards import configured_guard

_guard = configured_guard()

SECRET_KEY = "benchmark"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.benchmarks.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "rest_framework", *_guard.apps]
MIDDLEWARE = list(_guard.middleware)
REST_FRAMEWORK = {"DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"]}
globals().update(_guard.settings)

# None keeps the connection open between requests, as a service that cares about its speed does.
_database: dict[str, Any] = {**dj_database_url.parse(os.environ["BENCHMARK_DATABASE_URL"], conn_max_age=None)}
if _database["ENGINE"] == "django.db.backends.sqlite3":
    _database["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL",
    }
DATABASES = {"default": _database}

# Lines are made and written as on a server, to where nobody waits for them.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"nowhere": {"class": "logging.FileHandler", "filename": os.devnull}},
    "root": {"handlers": ["nowhere"], "level": "WARNING"},
}
