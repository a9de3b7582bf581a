"""Secrets in environment variables, read with python-decouple. No Django: the caller names the folder of `.env`."""

from functools import cache
from pathlib import Path

from decouple import Config, RepositoryEmpty, RepositoryEnv, strtobool

PREFIX = "env:"  # starts the names of keys from the environment
MIN_LENGTH = 32  # characters; a person may have made the secret up, so it must be long


class UnreadableFileError(Exception):
    """The file `.env` cannot be read; the text is a sentence about it."""


def values(variable: str, folder: str) -> list[str]:
    """Return the comma-separated values of the variable; none if it is unset, empty or blank.

    Raises UnreadableFileError.
    """
    text = str(config_in(folder)(variable, default=""))
    return [value for part in text.split(",") if (value := part.strip())]


def is_on(variable: str, folder: str) -> bool:
    """Tell whether a switch is on, as it is if the variable is unset.

    Raises ValueError if it is no boolean, and UnreadableFileError.
    """
    text = str(config_in(folder)(variable, default="true")).strip()
    return text != "" and bool(strtobool(text))


def obstacle(folder: str) -> str:
    """Return why the folder's `.env` cannot be read, as a sentence; empty if it can, or if there is none."""
    repository = config_in(folder).repository
    return repository.sentence if isinstance(repository, _Unreadable) else ""


@cache
def config_in(folder: str) -> Config:
    """Return decouple's `config` for the environment, and then the `.env` of this folder alone.

    `AutoConfig` would go on to the folders above it, and a `settings.ini` would hide the `.env`. What is only in a
    file that cannot be read raises UnreadableFileError.
    """
    file = Path(folder, ".env")
    try:
        # Some editors begin a file with a mark, which would become a part of the first variable's name.
        return Config(RepositoryEnv(file, encoding="utf-8-sig") if file.is_file() else RepositoryEmpty())
    except UnicodeDecodeError:
        # Without the error itself, which holds what the file holds.
        return Config(_Unreadable(f"{file} is not text in UTF-8."))
    except OSError as error:
        return Config(_Unreadable(f"{file} cannot be read: {error.strerror}."))


class _Unreadable(RepositoryEmpty):  # type: ignore[misc]
    def __init__(self, sentence: str) -> None:
        self.sentence = sentence

    def __contains__(self, variable: object) -> bool:
        raise UnreadableFileError(self.sentence)
