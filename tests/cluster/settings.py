"""What each node of the cluster runs: the example, with every view in a transaction, and no word of its errors."""

from typing import Any

from example_project.settings import *  # noqa: F403
from example_project.settings import DATABASES as DATABASES
from example_project.settings import LOGGING as LOGGING
from example_project.settings import MIDDLEWARE, config

ROOT_URLCONF = "tests.cluster.urls"
MIDDLEWARE = ["tests.cluster.views.name_the_worker", *MIDDLEWARE]

_options: dict[str, Any] = DATABASES["default"]
_options["ATOMIC_REQUESTS"] = True
# As Django asks of those who pool transactions. Half of the nodes forget it.
_options["DISABLE_SERVER_SIDE_CURSORS"] = config("CLUSTER_TELLS_OF_ITS_POOLER", cast=bool)
# Why an answer was 500 stands in the node's output.
_loggers: dict[str, Any] = LOGGING["loggers"]  # type: ignore[assignment]
_loggers["django.request"] = {"handlers": ["stderr"], "level": "ERROR"}
