"""The cluster: PostgreSQL, PgBouncer before it, Redis and its replica, and four nodes.

The nodes know each other through those alone. Where the audit log goes through a stream of Redis, two shippers as well.
"""

import os
import subprocess
import sys
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cluster.load import Kind
from tests.cluster.nodes import Form, Node
from tests.cluster.processes import ClusterError, Process, uninterrupted, workspace
from tests.cluster.redis_pair import RedisPair
from tests.cluster.shippers import DATABASE, STREAM, Shipper
from tests.cluster.stores import PgBouncer, PostgreSQL
from tests.support.processes import ROOT

NODES = 4
SHIPPERS = 2
GOOD_KEYS = 4


class Sink(StrEnum):
    """Where the nodes write their audit log."""

    DATABASE = "database"
    STREAM = "stream"


class Cluster:
    """Starts with its block and ends with it, however it ends; nothing is left, neither a process nor a file."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.shippers: list[Shipper] = []

    def __enter__(self) -> Self:
        with ExitStack() as end:
            self._folder = end.enter_context(workspace())
            self._start(self._folder, end)
            self._end = end.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with uninterrupted():
            self._end.close()

    def _start(self, folder: Path, end: ExitStack) -> None:
        self.postgresql = PostgreSQL(folder)
        end.callback(self.postgresql.end)
        self.redis = RedisPair(folder)
        end.callback(self.redis.end)
        self.pgbouncer = PgBouncer(folder, f"host=127.0.0.1 port={self.postgresql.port} user=postgres")
        end.callback(self.pgbouncer.kill)
        self.nodes = [Node(number, folder, self._environment(number)) for number in range(NODES)]
        if self.sink == Sink.STREAM:
            self.shippers = [Shipper(number, folder, self._environment(0), self.redis) for number in range(SHIPPERS)]
        for process in (*self.nodes, *self.shippers):
            end.callback(process.kill)
        for store in (self.postgresql, self.redis, self.pgbouncer):
            store.begin()
        self._migrate()
        for process in (*self.nodes, *self.shippers):
            process.start()
        for process in (*self.nodes, *self.shippers):
            process.begin()

    def _environment(self, number: int) -> dict[str, str]:
        return {
            "DJANGO_SETTINGS_MODULE": "tests.cluster.settings",
            "DATABASE_URL": PostgreSQL.url(self.pgbouncer.port),
            "CACHE_URL": self.redis.url(0),
            # With a use in the replica before its view runs: a primary that dies takes no row along.
            "AUDIT_SINK": f"{self.redis.url(DATABASE)}?stream={STREAM}&replicas=1"
            if self.sink == Sink.STREAM
            else "database",
            "CLUSTER_TELLS_OF_ITS_POOLER": str(number % 2 == 0),
            "DEBUG": "false",
            "SECRET_KEY": "of-the-cluster-" * 4,
            "ALLOWED_HOSTS": "127.0.0.1",
        }

    def _migrate(self) -> None:
        # Past the pooler, as one does: what a migration sets for its session has to stay with it.
        environment = {**os.environ, **self._environment(0), "DATABASE_URL": PostgreSQL.url(self.postgresql.port)}
        command = [sys.executable, "manage.py", "migrate", "-v", "0"]
        subprocess.run(command, check=True, cwd=ROOT, env=environment)

    def make_keys(self) -> dict[Kind, list[str]]:
        """Make the keys that the load presents."""
        ended = self._make("ended", ["users:read"])
        self._order("/end/", {"key": ended})
        return {
            Kind.GOOD: [self._make(f"good {number}", ["users:read"]) for number in range(GOOD_KEYS)],
            Kind.UNSCOPED: [self._make("unscoped", [])],
            # One whose rate is soon reached, and one whose requests are all counted.
            Kind.LIMITED: [self._make(f"limited {rate}", ["users:read"], rate) for rate in ("60/min", "100000/min")],
            Kind.ENDED: [ended],
            Kind.STRANGER: ["0" * 40],
        }

    def _make(self, name: str, scopes: list[str], rate: str = "") -> str:
        return self._order("/make/", {"name": name, "scope": scopes, "rate": rate})

    def _order(self, path: str, form: Form) -> str:
        answer = self.nodes[0].post(path, form)
        if answer.status != 200:
            raise ClusterError(f"{path} was answered with {answer.status}.")
        return answer.body.decode()

    def everything_is_shipped(self) -> bool:
        """Tell whether nothing waits in the stream."""
        with self.redis.connect(DATABASE) as client:
            return int(client.xlen(STREAM)) == 0

    def said(self) -> str:
        """Return the last words of each of its processes."""
        processes: list[Process | RedisPair] = [
            self.postgresql,
            self.pgbouncer,
            self.redis,
            *self.nodes,
            *self.shippers,
        ]
        return "\n".join(process.said() for process in processes)
