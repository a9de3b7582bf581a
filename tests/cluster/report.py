"""What a run of the cluster comes to, for people."""

from collections import Counter
from collections.abc import Sequence

from tests.cluster.load import Request
from tests.cluster.run import Result

BROKEN_SHOWN = 20


def text(result: Result) -> str:
    """Return the report of a run: what was killed, what was in flight, and the counts."""
    counts = result.counts
    lines = [f"{'killed':50} {'in flight':>9} {'over after':>11}  answers from then until it was over", ""]
    for incident in result.incidents:
        met = _statuses([request for request in result.requests if incident.struck < request.ended < incident.over])
        lasted = f"{incident.over - incident.struck:.1f} s"
        lines.append(f"{incident.what:50} {len(incident.in_flight):9} {lasted:>11}  {_listed(met)}")
    lines += [
        "",
        f"The audit log went to the {result.sink}.",
        f"{len(result.incidents)} times something was killed, restarted or cut off, in {result.seconds:.0f} s.",
        f"{len(result.requests)} requests: {_listed(_statuses(result.requests))}.",
        f"{counts.rows} rows; {counts.without_outcome} of them without an outcome, for its worker was killed or its"
        " store lost what was written after the answer.",
        f"{result.deactivated} keys were deactivated on one node, and refused by the next request on every other.",
        f"{counts.strangers_answered} unknown keys were refused, and {counts.strangers_counted} counted.",
        f"{len(counts.broken)} promises were broken.",
        *(f"  {fault}" for fault in counts.broken[:BROKEN_SHOWN]),
    ]
    return "\n".join(lines)


def _statuses(requests: Sequence[Request]) -> Counter[str]:
    return Counter("no answer" if request.status is None else str(request.status) for request in requests)


def _listed(statuses: Counter[str]) -> str:
    return ", ".join(f"{status} x {times}" for status, times in sorted(statuses.items()))
