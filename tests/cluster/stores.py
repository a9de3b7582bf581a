"""The stores of the cluster, private to it, each on a port of its own: PostgreSQL, and PgBouncer before it."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psycopg

from tests.cluster.processes import (
    ClusterError,
    Process,
    free_port,
    give_away,
    new_folder,
    path_of,
    program,
    unprivileged,
)

# What the cluster cannot do without, and the package of Debian that has it.
PROGRAMS = {"initdb": "postgresql", "postgres": "postgresql", "pgbouncer": "pgbouncer", "redis-server": "redis-server"}

POSTGRESQL = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
timezone = 'UTC'
max_connections = 60
shared_buffers = 32MB
fsync = on
synchronous_commit = on
restart_after_crash = on
"""

# Time-outs shorter than PgBouncer's own, which would keep a caller waiting for minutes.
PGBOUNCER = """
[databases]
{database} = {server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 400
query_wait_timeout = 5
server_connect_timeout = 5
server_login_retry = 1
"""


def missing_packages() -> list[str]:
    """Return Debian's packages for the programs that are not here."""
    return sorted({package for name, package in PROGRAMS.items() if program(name) is None})


class PostgreSQL(Process):
    """A server with a database cluster of its own, which waits for the disk as one in earnest does."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        home = give_away(new_folder(folder / "postgresql"))
        data = home / "data"
        subprocess.run(
            [path_of("initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, cwd=home, **unprivileged(),
        )  # fmt: skip
        with (data / "postgresql.conf").open("a") as configuration:
            configuration.write(f"{POSTGRESQL}port = {self.port}\n")
        super().__init__("postgresql", [path_of("postgres"), "-D", str(data)], folder, cwd=home, **unprivileged())

    def restart(self) -> None:
        """Restart it in an orderly way, without waiting for its clients (`pg_ctl restart -m fast`)."""
        self.send(signal.SIGINT)
        self.wait()
        self.begin()

    def end(self) -> None:
        """Stop it with all its processes; its data is not needed any more (`pg_ctl stop -m immediate`)."""
        if self.is_running:
            self.send(signal.SIGQUIT)
            self.wait()

    def kill_backend(self) -> int:
        """Kill a process that serves clients, with SIGKILL, and return its process id."""
        with self.connect() as connection:
            found = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                " ORDER BY state = 'active' DESC, state_change DESC LIMIT 1"
            ).fetchone()
        if found is None:
            raise ClusterError("PostgreSQL serves no client.")
        os.kill(found[0], signal.SIGKILL)
        return int(found[0])

    def recoveries(self) -> int:
        """Return how often it has begun anew after the death of a backend."""
        return self.log().count("all server processes terminated; reinitializing")

    def connect(self) -> "psycopg.Connection[Any]":
        """Return a connection to the server itself, past PgBouncer."""
        return psycopg.connect(self.url(self.port), autocommit=True, connect_timeout=10)

    @staticmethod
    def url(port: int) -> str:
        return f"postgres://postgres@127.0.0.1:{port}/postgres"

    def is_ready(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


class PgBouncer(Process):
    """A pooler that gives a connection of the server to each transaction."""

    def __init__(self, folder: Path, server: str, database: str = "*", pool_size: int = 12) -> None:
        """`server` is what its connections are made of, in PgBouncer's own words: `host=... port=... user=...`."""
        self.port = free_port()
        configuration = give_away(new_folder(folder / "pgbouncer")) / "pgbouncer.ini"
        configuration.write_text(
            PGBOUNCER.format(database=database, server=server, port=self.port, pool_size=pool_size)
        )
        super().__init__("pgbouncer", [path_of("pgbouncer"), str(configuration)], folder, **unprivileged())

    def is_ready(self) -> bool:
        try:
            with psycopg.connect(PostgreSQL.url(self.port), connect_timeout=10) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True
