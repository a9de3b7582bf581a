"""One run of the cluster, from its start to its counts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic

from tests.cluster.cluster import Cluster
from tests.cluster.counting import Counts, Row, count
from tests.cluster.deactivations import Deactivations
from tests.cluster.incidents import Incident, Incidents
from tests.cluster.load import Load, Request
from tests.cluster.processes import ClusterError, eventually

ROWS = "SELECT request_id, event, reason, status, count FROM keys_auditevent WHERE request_id <> ''"


@dataclass
class Result:
    """What was sent and what was done meanwhile, how many keys were deactivated, and what the log says."""

    requests: list[Request]
    incidents: list[Incident]
    deactivated: int
    counts: Counts
    seconds: float


def run(rounds: int, seconds: float, progress: Callable[[str], None]) -> Result:
    """Do everything to a new cluster, so many times, with so many seconds of peace before each thing.

    Raises ClusterError where the cluster does not come up, or not back.
    """
    started = monotonic()
    with Cluster() as cluster:
        try:
            requests, incidents, deactivated = _disturb(cluster, rounds, seconds, progress)
        except ClusterError as error:
            raise ClusterError(f"{error}\n{cluster.said()}") from error

        def counted() -> Counts:
            return count(requests, rows(cluster), incidents)

        # The last outcomes are written a moment after their answers.
        eventually(lambda: not counted().broken)
        return Result(requests, incidents, deactivated, counted(), monotonic() - started)


def _disturb(
    cluster: Cluster, rounds: int, seconds: float, progress: Callable[[str], None]
) -> tuple[list[Request], list[Incident], int]:
    with Load(cluster.nodes, cluster.make_keys()) as load, Deactivations(cluster.nodes, load) as deactivations:
        progress("The cluster is up.")
        incidents = Incidents(cluster, load, progress)
        for turn in range(rounds):
            for bring_about in incidents.kinds:
                load.is_over.wait(seconds)
                bring_about(turn)
        deactivations.wait_for_one()
    return load.requests, incidents.happened, deactivations.done


def rows(cluster: Cluster) -> Iterator[tuple[str, Row]]:
    """Return the rows of the audit log that are about requests, with their request ids."""
    with cluster.postgresql.connect() as connection:
        for request_id, *values in connection.execute(ROWS):
            yield request_id, Row(*values)
