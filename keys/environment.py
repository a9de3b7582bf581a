"""Secrets in environment variables, read with python-decouple. No Django: the caller names the folder of `.env`."""

from functools import cache

from decouple import AutoConfig, strtobool

# What the names of keys from the environment begin with.
PREFIX = "env:"
# A secret in the environment may be one that somebody made up, so it has to be long.
MIN_LENGTH = 32


def values(variable: str, folder: str) -> list[str]:
    """Return the comma-separated values of the variable; none where it is unset, empty or blank."""
    text = str(_settings(folder)(variable, default=""))
    return [value for part in text.split(",") if (value := part.strip())]


def is_on(variable: str, folder: str) -> bool:
    """Tell whether a switch is on; it is where the variable is unset. Raises ValueError for what is no boolean."""
    text = str(_settings(folder)(variable, default="true")).strip()
    return text != "" and bool(strtobool(text))


@cache
def _settings(folder: str) -> AutoConfig:
    # Left alone, decouple would look for `.env` beside the file that asks: this one, in site-packages.
    return AutoConfig(search_path=folder)
