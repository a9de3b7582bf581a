"""Routers of projects with several databases, and a replica that lags."""

from typing import Any


class KeysElsewhere:
    """Keeps the app's tables in a database of their own, `keys_db`, and all others in `default`."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "keys_db" if model._meta.app_label == "keys" else "default"

    db_for_write = db_for_read

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool:
        return len({model._meta.app_label == "keys" for model in (one, other)}) == 1

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool | None:
        return (db == "keys_db") == (app_label == "keys")


class LogElsewhere(KeysElsewhere):
    """Keeps the log in `keys_db`, and the keys with all others in `default`."""

    MOVED = {"auditevent", "auditseal"}

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "keys_db" if model._meta.app_label == "keys" and model._meta.model_name in self.MOVED else "default"

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool | None:
        if app_label != "keys":
            return db == "default"
        return None if model_name is None else (db == "keys_db") == (model_name in self.MOVED)


class LaggingReplica:
    """Reads from `replica`, which has the tables and gets no row, and writes to `default`."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica" if model._meta.app_label == "keys" else "default"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool:
        return True
