"""A router sends the log to another database than the keys, which cannot work: the check says so."""

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import DATABASES, NAME, test_database

DATABASES["keys_db"] = test_database(f"{NAME}_log")
DATABASE_ROUTERS = ["tests.support.routers.LogElsewhere"]

EXPECTED_CHECKS = {"keys.E022"}
WITHOUT = {"request", "refusal", "introspection", "admin", "commands"}
