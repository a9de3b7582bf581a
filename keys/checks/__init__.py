"""System checks. `manage.py check --tag keys` runs only them; the manual explains each id."""

from . import (
    access,
    database,
    deployment,
    environment,
    gateway,
    keyrings,
    options,
    owners,
    pages,
    selfservice,
    sharing,
    sink,
    transactions,
    views,
)

__all__ = [
    "access",
    "database",
    "deployment",
    "environment",
    "gateway",
    "keyrings",
    "options",
    "owners",
    "pages",
    "selfservice",
    "sharing",
    "sink",
    "transactions",
    "views",
]
