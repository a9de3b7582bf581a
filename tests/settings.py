"""The example's settings, for its tests and the package's; `DATABASE_URL` and `CACHE_URL` choose the stores."""

from typing import Any
from uuid import uuid4

from example_project.settings import *  # noqa: F403
from example_project.settings import CACHES as CACHES
from example_project.settings import DATABASES as DATABASES
from example_project.settings import INSTALLED_APPS, LOGGING

# Packages that keys are imported from.
INSTALLED_APPS = [*INSTALLED_APPS, "rest_framework.authtoken", "rest_framework_api_key", "knox"]
ROOT_URLCONF = "tests.urls"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Tests look at the records that reach the root logger.
LOGGING = {**LOGGING, "loggers": {"api_keys": {"level": "INFO"}}}

# In the same Redis another run may have counted, and another process may count now, for keys with the same ids.
CACHES["default"]["KEY_PREFIX"] = uuid4().hex

_database: dict[str, Any] = DATABASES["default"]
if _database["ENGINE"].endswith("sqlite3"):
    from pathlib import Path
    from tempfile import gettempdir

    # A file and not memory, so that threads and other processes see the same database.
    _database["TEST"] = {"NAME": str(Path(gettempdir()) / "django-service-keys-test.sqlite3")}
    # Processes die in the tests, but the machine does not: nobody has to wait for its disk.
    _database["OPTIONS"]["init_command"] += "; PRAGMA synchronous=OFF"
