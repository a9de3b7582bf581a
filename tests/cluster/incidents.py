"""What is done to the cluster while requests are under way: each kind of process is killed in turn."""

import os
import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from time import monotonic

from tests.cluster.cluster import Cluster, Sink
from tests.cluster.load import Kind, Load, Request
from tests.cluster.processes import wait_until
from tests.cluster.shippers import Shipper

# More than one worker of a node has threads for, so that whichever is killed has some.
ENOUGH = 4
ANSWERED = {Kind.GOOD: {200}, Kind.LIMITED: {200, 429}}


@dataclass
class Incident:
    """One thing that was done, the requests that were in flight then, and what it may have cost."""

    what: str
    in_flight: list[Request]
    # The node that was struck, whose requests may go unanswered; None where it was a store.
    node: int | None = None
    # What a node may have to answer with 503 for want of that store.
    hampered: Collection[Kind] = ()
    # Whether what is written after an answer, without making sure of it, may be lost.
    loses_outcomes: bool = False
    # Workers that took along what they had not written yet.
    killed_workers: set[int] = field(default_factory=set)
    struck: float = field(default_factory=monotonic)
    over: float = 0.0

    def meets(self, request: Request) -> bool:
        """Tell whether the request was under way while this lasted."""
        return request.started < self.over and request.ended > self.struck


class Incidents:
    """Brings them about, one after the other, and waits each time until every node is itself again."""

    def __init__(self, cluster: Cluster, load: Load, progress: Callable[[str], None]) -> None:
        self._cluster, self._load, self._progress = cluster, load, progress
        self._all = range(len(cluster.nodes))
        self.happened: list[Incident] = []

    @property
    def _loses_outcomes(self) -> bool:
        """Whether the database takes outcomes without waiting for its disk."""
        return self._cluster.sink == Sink.DATABASE

    def kinds(self, brief: bool) -> list[Callable[[int], None]]:
        """Return what there is to do; each takes the number of the turn, which chooses the victim among several.

        With `brief`, what does not depend on where the audit log goes is done only where it goes to the database.
        """
        common = [self.kill_worker, self.kill_backend, self.kill_pgbouncer, self.restart_postgresql]
        of_redis = [self.kill_redis, self.freeze_redis, self.hand_over_redis, self.replace_redis]
        crucial = [*of_redis, self.kill_node, self.kill_postgresql]
        if self._cluster.sink == Sink.DATABASE:
            return [*common, *crucial]
        return [*([] if brief else common), self.kill_shipper, self.kill_shippers, *crucial]

    def kill_worker(self, turn: int) -> None:
        node = turn % len(self._all)
        with self._incident(f"a gunicorn worker of node {node}", node=node) as incident:
            worker = self._load.worker_of(node)
            os.kill(worker, signal.SIGKILL)
            incident.killed_workers = {worker}

    def kill_node(self, turn: int) -> None:
        node = (turn + 1) % len(self._all)
        with self._incident(f"node {node}, its workers included", node=node) as incident:
            self._cluster.nodes[node].kill()
            incident.killed_workers = self._load.workers_of(node)
            self._wait_until_refused(incident, [node], Kind.GOOD)
            self._wait_until_answered([other for other in self._all if other != node], incident.struck, Kind.GOOD)
            self._cluster.nodes[node].begin()

    def kill_shipper(self, turn: int) -> None:
        """One of them, in the middle of its work; the other takes that over."""
        shipper = self._cluster.shippers[turn % len(self._cluster.shippers)]
        with self._incident(f"a shipper ({shipper.name})") as incident:
            self._kill_shippers([shipper], incident)
            left_by = shipper.consumer
            wait_until(lambda: shipper.entries_of(left_by) == 0, f"another takes over what {shipper.name} left")
            shipper.begin()

    def kill_shippers(self, turn: int) -> None:
        """All of them; whoever comes next takes over."""
        with self._incident("every shipper") as incident:
            self._kill_shippers(self._cluster.shippers, incident)
            for shipper in self._cluster.shippers:
                shipper.start()
            for shipper in self._cluster.shippers:
                shipper.begin()

    def _kill_shippers(self, shippers: Sequence[Shipper], incident: Incident) -> None:
        entries = [str(shipper.kill_with_entries()) for shipper in shippers]
        incident.in_flight = self._load.in_flight()
        incident.what += f", {' and '.join(entries)} entries in hand"

    def kill_backend(self, turn: int) -> None:
        postgresql = self._cluster.postgresql
        recoveries = postgresql.recoveries()
        with self._incident("a backend of PostgreSQL", hampered=Kind, loses_outcomes=self._loses_outcomes):
            postgresql.kill_backend()
            wait_until(lambda: postgresql.recoveries() > recoveries, "PostgreSQL recovers from the death of a backend")

    def kill_pgbouncer(self, turn: int) -> None:
        with self._incident("PgBouncer", hampered=Kind) as incident:
            self._cluster.pgbouncer.kill()
            self._wait_until_refused(incident, self._all, Kind.GOOD)
            self._cluster.pgbouncer.begin()

    def kill_postgresql(self, turn: int) -> None:
        with self._incident(
            "PostgreSQL (the postmaster)", hampered=Kind, loses_outcomes=self._loses_outcomes
        ) as incident:
            self._cluster.postgresql.kill()
            self._wait_until_refused(incident, self._all, Kind.GOOD)
            self._cluster.postgresql.begin()

    def restart_postgresql(self, turn: int) -> None:
        with self._incident("PostgreSQL, restarted in an orderly way", hampered=Kind):
            self._cluster.postgresql.restart()

    def kill_redis(self, turn: int) -> None:
        with self._redis_incident("Redis") as incident:
            self._cluster.redis.kill()
            self._wait_without_redis(incident)
            self._cluster.redis.begin()

    def freeze_redis(self, turn: int) -> None:
        with self._redis_incident("Redis, cut off (SIGSTOP)") as incident:
            self._cluster.redis.freeze()
            try:
                self._wait_without_redis(incident)
            finally:
                self._cluster.redis.thaw()

    def hand_over_redis(self, turn: int) -> None:
        """The replica takes over in an orderly way; the old primary keeps its connections, and answers READONLY."""
        with self._redis_incident("Redis, handed over to its replica"):
            self._cluster.redis.hand_over()

    def replace_redis(self, turn: int) -> None:
        """The primary is killed; the replica takes over, and is followed by it."""
        with self._redis_incident("Redis, replaced by its replica"):
            self._cluster.redis.lose_primary()
            self._cluster.redis.begin()

    def _redis_incident(self, what: str) -> AbstractContextManager[Incident]:
        if self._cluster.sink == Sink.STREAM:
            return self._incident(what, hampered=Kind, loses_outcomes=True)
        return self._incident(what, hampered=[Kind.LIMITED])

    def _wait_without_redis(self, incident: Incident) -> None:
        """Wait until every node has felt the loss, and has gone on with what needs no Redis."""
        if Kind.GOOD in incident.hampered:
            self._wait_until_refused(incident, self._all, Kind.GOOD)
        else:
            self._wait_until_refused(incident, self._all, Kind.LIMITED)
            self._wait_until_answered(self._all, incident.struck, Kind.GOOD)

    @contextmanager
    def _incident(
        self, what: str, *, node: int | None = None, hampered: Collection[Kind] = (), loses_outcomes: bool = False
    ) -> Iterator[Incident]:
        self._wait_until_answered(self._all, monotonic(), Kind.GOOD)

        def enough() -> list[Request]:
            in_flight = self._load.in_flight(node)
            return in_flight if len(in_flight) >= ENOUGH else []

        in_flight = self._load.wait_for(enough, f"{ENOUGH} requests are in flight")
        incident = Incident(what, in_flight, node, hampered, loses_outcomes=loses_outcomes)
        self.happened.append(incident)
        yield incident
        mended = monotonic()
        for kind in ANSWERED:
            self._wait_until_answered(self._all, mended, kind)
        incident.over = monotonic()
        self._progress(f"{incident.what}: {len(incident.in_flight)} in flight")

    def _wait_until_answered(self, nodes: Sequence[int], since: float, kind: Kind) -> None:
        def is_it(request: Request) -> bool:
            return request.kind == kind and request.status in ANSWERED[kind]

        self._load.wait_for_each(nodes, since, is_it, f"a {kind} is answered by each of the nodes {list(nodes)}")

    def _wait_until_refused(self, incident: Incident, nodes: Sequence[int], kind: Kind) -> None:
        def is_it(request: Request) -> bool:
            return request.kind == kind and request.status not in ANSWERED[kind]

        what = f"each of the nodes {list(nodes)} shows that this is gone: {incident.what}"
        self._load.wait_for_each(nodes, incident.struck, is_it, what)
