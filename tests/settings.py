"""The example's settings, for its tests and the package's; `DATABASE_URL` and `CACHE_URL` choose the stores."""

import tempfile
from pathlib import Path
from typing import Any
from uuid import uuid4

from django.conf import global_settings

from example_project.settings import *  # noqa: F403
from example_project.settings import CACHES as CACHES
from example_project.settings import DATABASES as DATABASES
from example_project.settings import INSTALLED_APPS, KEYS, LOGGING, TEMPLATES
from tests.support import runs

RUN = runs.begin()

# Packages and tables that keys are imported from, and models that own keys.
INSTALLED_APPS = [
    *INSTALLED_APPS, "rest_framework.authtoken", "rest_framework_api_key", "knox", "tests.oldkeys", "tests.ownership",
    "tests.keyrings.tokens",
]  # fmt: skip
ROOT_URLCONF = "tests.urls"
# Most tests are of keys that have no owners, for which nothing of owners may show, and nothing cost.
KEYS = {option: value for option, value in KEYS.items() if option not in {"OWNERS", "SELF_SERVICE"}}
LOGIN_URL, LOGIN_REDIRECT_URL = str(global_settings.LOGIN_URL), str(global_settings.LOGIN_REDIRECT_URL)
# Pages stand alone, but where a test gives them a page to stand in.
TEMPLATES = [{**TEMPLATES[0], "DIRS": []}]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Tests look at the records that reach the root logger.
LOGGING = {**LOGGING, "loggers": {"api_keys": {"level": "INFO"}}}

# In the same Redis another run may count now, and another process of this one, for keys with the same ids.
CACHES["default"]["KEY_PREFIX"] = f"{RUN}_{uuid4().hex}"

_database: dict[str, Any] = DATABASES["default"]
_database["TEST"] = {"NAME": RUN}
if _database["ENGINE"].endswith("sqlite3"):
    # A file and not memory, so that threads and other processes see the same database.
    _database["TEST"] = {"NAME": str(Path(tempfile.gettempdir()) / f"{RUN}.sqlite3")}
    # Processes die in the tests, but the machine does not: nobody has to wait for its disk.
    _database["OPTIONS"]["init_command"] += "; PRAGMA synchronous=OFF"
