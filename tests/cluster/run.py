"""One run of the cluster, from its start to its counts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic

from tests.cluster.cluster import Cluster, Sink
from tests.cluster.counting import Counts, Row, count
from tests.cluster.deactivations import Deactivations
from tests.cluster.incidents import Incident, Incidents
from tests.cluster.load import Load, Request
from tests.cluster.processes import PATIENCE, ClusterError, wait_until
from tests.support.processes import eventually

ROWS = "SELECT request_id, event, reason, status, count FROM keys_auditevent WHERE request_id <> ''"


@dataclass
class Result:
    """What was sent and what was done meanwhile, how many keys were deactivated, and what the log says."""

    sink: Sink
    requests: list[Request]
    incidents: list[Incident]
    deactivated: int
    counts: Counts
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What is to be done: every incident so many times, with so many seconds of peace before each."""

    sink: Sink
    rounds: int = 1
    seconds: float = 0.0
    # Leave out of a run with a stream what a run with the database shows as well.
    brief: bool = False


def run(plan: Plan, progress: Callable[[str], None]) -> Result:
    """Do all of it to a new cluster, and count.

    Raises ClusterError where the cluster does not come up, or not back.
    """
    started = monotonic()
    with Cluster(plan.sink) as cluster:
        try:
            requests, incidents, deactivated = _disturb(cluster, plan, progress)
            wait_until(cluster.everything_is_shipped, "everything is shipped")
        except ClusterError as error:
            raise ClusterError(f"{error}\n{cluster.said()}") from error

        def counted() -> Counts:
            return count(requests, rows(cluster), incidents)

        # The last outcomes are written a moment after their answers.
        eventually(lambda: not counted().broken, PATIENCE)
        return Result(plan.sink, requests, incidents, deactivated, counted(), monotonic() - started)


def _disturb(
    cluster: Cluster, plan: Plan, progress: Callable[[str], None]
) -> tuple[list[Request], list[Incident], int]:
    with Load(cluster.nodes, cluster.make_keys()) as load, Deactivations(cluster.nodes, load) as deactivations:
        progress(f"The cluster is up; its audit log goes to the {cluster.sink}.")
        incidents = Incidents(cluster, load, progress)
        for turn in range(plan.rounds):
            for bring_about in incidents.kinds(plan.brief):
                load.is_over.wait(plan.seconds)
                bring_about(turn)
        deactivations.wait_for_one()
    return load.requests, incidents.happened, deactivations.done


def rows(cluster: Cluster) -> Iterator[tuple[str, Row]]:
    """Return the rows of the audit log that are about requests, with their request ids."""
    with cluster.postgresql.connect() as connection:
        for request_id, *values in connection.execute(ROWS):
            yield request_id, Row(*values)
