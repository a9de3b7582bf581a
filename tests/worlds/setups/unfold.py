"""The admin looks as django-unfold has it, with admin classes of the project's own, as unfold wants them."""

from tests.worlds.setups.unfold_plain import *  # noqa: F403
from tests.worlds.setups.unfold_plain import INSTALLED_APPS as PLAIN

INSTALLED_APPS = [*PLAIN, "tests.worlds.unfold_admin"]
