"""Databases made for the run and gone after it: files in a temporary folder, or databases on a PostgreSQL server."""

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

# Takes a short name, returns the URL of a new, empty database.
CreateDatabase = Callable[[str], str]


@contextlib.contextmanager
def sqlite_files() -> Iterator[CreateDatabase]:
    with tempfile.TemporaryDirectory(prefix="keys-benchmark-") as folder:
        yield lambda name: f"sqlite:///{folder}/{name}.sqlite3"


@contextlib.contextmanager
def postgres_databases(server_url: str) -> Iterator[CreateDatabase]:
    """Create databases beside the one that the URL names, whose user must be allowed to."""
    import psycopg
    from psycopg import sql

    names: list[str] = []

    def create(name: str) -> str:
        names.append(f"keys_benchmark_{os.getpid()}_{name}")
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(names[-1])))
        return urlsplit(server_url)._replace(path=f"/{names[-1]}").geturl()

    with psycopg.connect(server_url, autocommit=True) as admin:
        try:
            yield create
        finally:
            for name in names:
                admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def databases(engine: str, server_url: str) -> contextlib.AbstractContextManager[CreateDatabase]:
    """Return the databases of an engine, `sqlite` or `postgres`."""
    return sqlite_files() if engine == "sqlite" else postgres_databases(server_url)


def description(engine: str, server_url: str) -> str:
    """Return the engine's name, version and what it does to make a commit durable."""
    if engine == "sqlite":
        return f"SQLite {sqlite3.sqlite_version}, WAL, synchronous=FULL"
    import psycopg

    with psycopg.connect(server_url) as connection:
        settings = {
            name: connection.execute("SELECT current_setting(%s)", [name]).fetchone()
            for name in ("server_version", "fsync", "synchronous_commit")
        }
    values = {name: row[0] if row else "?" for name, row in settings.items()}
    version = values.pop("server_version").split()[0]
    return f"PostgreSQL {version}, " + ", ".join(f"{name}={value}" for name, value in values.items())
