"""Numbers are written in German, with separators."""

from tests.worlds.settings import *  # noqa: F403

LANGUAGE_CODE = "de"
USE_THOUSAND_SEPARATOR = True
