"""Counts what is sent through the cursors that it hands out."""

import os
from importlib import import_module
from typing import Any

vendors: Any = import_module(f"{os.environ['KEYS_WORLD_ENGINE']}.base")
queries: list[str] = []


class CountingCursor:
    """Any cursor, whose queries are noted."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __enter__(self) -> "CountingCursor":
        return self

    def __exit__(self, *error: object) -> None:
        self._cursor.close()

    def __iter__(self) -> Any:
        return iter(self._cursor)

    def execute(self, sql: str, params: Any = None) -> Any:
        queries.append(sql)
        return self._cursor.execute(sql, params)

    def executemany(self, sql: str, params: Any) -> Any:
        queries.append(sql)
        return self._cursor.executemany(sql, params)


class DatabaseWrapper(vendors.DatabaseWrapper):  # type: ignore[misc]
    """The vendor's, with such cursors."""

    def cursor(self) -> Any:
        return CountingCursor(super().cursor())
