"""An ordinary project, against which the others can be held."""

from tests.worlds.settings import *  # noqa: F403
