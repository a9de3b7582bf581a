"""Which key a calling service sends, and which one it tries after a refusal. Shared by the clients."""

import sys
from pathlib import Path

from decouple import AutoConfig


class Secret(str):
    """A header's value, stripped; its repr is `***`. Raises ValueError, without it, if no header can carry it."""

    def __new__(cls, value: str, source: str = "A header") -> "Secret":
        if not (value.strip().isascii() and value.strip().isprintable()):
            raise ValueError(f"{source} holds characters that an HTTP header cannot carry.")
        return super().__new__(cls, value.strip())

    def __repr__(self) -> str:
        return "'***'"


class KeyChain:
    """The current key and the one to try after a refusal: `next_key` ("" for none), else `<variable>_NEXT`.

    decouple reads that variable when it is needed: from the environment, else from the `.env` in or above the
    working directory, else from the one in or above `folder`. Raises ValueError, without the key, if it cannot be a
    header.
    """

    def __init__(self, key: str, next_key: str | None, variable: str, folder: Path) -> None:
        self.current = Secret(key, variable)
        self._next_variable = f"{variable}_NEXT"
        self.advice = f"Look at {variable} and {self._next_variable}."
        self._next_key = None if next_key is None else Secret(next_key, self._next_variable)
        self._folder = folder

    def after(self, refused: str | bytes) -> Secret | None:
        """Return the key to try after `refused`: the one another thread found working, else the next one.

        Raises ValueError if the variable's value cannot be a header.
        """
        next_key = self._next_key
        if next_key is None:
            next_key = Secret(self._read(), self._next_variable)
        return next((key for key in (self.current, next_key) if key and key != refused), None)

    def _read(self) -> str:
        for folder in (Path.cwd(), self._folder):
            read = AutoConfig(search_path=folder)  # a new one, because it caches .env
            if value := str(read(self._next_variable, default="")):
                return value
        return ""


def folder_of_caller() -> Path:
    """Return the folder of the file that calls this function's caller, where decouple's `config` looks."""
    return Path(sys._getframe(2).f_code.co_filename).resolve().parent
