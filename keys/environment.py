"""Secrets in environment variables, read with python-decouple. No Django: the caller names the folder of `.env`."""

from functools import cache

from decouple import AutoConfig, strtobool

PREFIX = "env:"  # starts the names of keys from the environment
MIN_LENGTH = 32  # characters; a person may have made the secret up, so it must be long


def values(variable: str, folder: str) -> list[str]:
    """Return the comma-separated values of the variable; none if it is unset, empty or blank."""
    text = str(_settings(folder)(variable, default=""))
    return [value for part in text.split(",") if (value := part.strip())]


def is_on(variable: str, folder: str) -> bool:
    """Tell whether a switch is on, as it is if the variable is unset. Raises ValueError if it is no boolean."""
    text = str(_settings(folder)(variable, default="true")).strip()
    return text != "" and bool(strtobool(text))


@cache
def _settings(folder: str) -> AutoConfig:
    # By default decouple looks for `.env` beside the calling file: this one, in site-packages.
    return AutoConfig(search_path=folder)
