"""The cluster: PostgreSQL, PgBouncer before it, Redis, and four nodes that know each other through them alone."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cluster.load import Kind
from tests.cluster.nodes import ROOT, Form, Node
from tests.cluster.processes import ClusterError, uninterrupted, workspace
from tests.cluster.stores import PgBouncer, PostgreSQL, RedisServer

NODES = 4
GOOD_KEYS = 4


class Cluster:
    """Starts with its block and ends with it, however it ends; nothing is left, neither a process nor a file."""

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
        self.redis = RedisServer(folder)
        end.callback(self.redis.stop)
        self.pgbouncer = PgBouncer(folder, f"host=127.0.0.1 port={self.postgresql.port} user=postgres")
        end.callback(self.pgbouncer.stop)
        self.nodes = [Node(number, folder, self._environment(number)) for number in range(NODES)]
        for node in self.nodes:
            end.callback(node.stop)
        for store in (self.postgresql, self.redis, self.pgbouncer):
            store.begin()
        self._migrate()
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            node.begin()

    def _environment(self, number: int) -> dict[str, str]:
        return {
            "DJANGO_SETTINGS_MODULE": "tests.cluster.settings",
            "DATABASE_URL": PostgreSQL.url(self.pgbouncer.port),
            "CACHE_URL": self.redis.url,
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
            Kind.LIMITED: [self._make("limited", ["users:read"], rate="60/min")],
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

    def said(self) -> str:
        """Return the last words of each of its processes."""
        return "\n".join(process.said() for process in (self.postgresql, self.pgbouncer, self.redis, *self.nodes))
