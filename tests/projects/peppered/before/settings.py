import os

from tests.projects.ordinary import *  # noqa: F403
from tests.projects.ordinary import INSTALLED_APPS

INSTALLED_APPS += ["peppered", "rest_framework"]
TOKEN_PEPPER = os.environ["TOKEN_PEPPER"]
