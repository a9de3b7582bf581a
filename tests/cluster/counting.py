"""Holds what the clients got against what the audit log says."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.cluster.incidents import Incident
from tests.cluster.load import GOOD_KINDS, Kind, Request

# What a request is answered with.
STATUSES: dict[Kind, set[int]] = {
    Kind.GOOD: {200},
    Kind.UNSCOPED: {403},
    Kind.LIMITED: {200, 429},
    Kind.ENDED: {401},
    Kind.STRANGER: {401},
}
# What may become of it when something is amiss. 503 says that a store is away; 500, that it went while the view was at
# it, whose own transaction could not end.
FAILURES = (None, 500, 503)
# How long before a crash an outcome may have been written that the crash took along, in seconds. PostgreSQL promises
# less than one; the rest is for a machine on which a thread waits for its turn.
LATE = 10.0


@dataclass(frozen=True)
class Row:
    """What the log says of a request; a row without a status has no outcome."""

    event: str
    reason: str
    status: int | None
    count: int


EXPECTED: dict[int, Row] = {
    200: Row("used", "", 200, 1),
    401: Row("refused", "inactive", 401, 1),
    403: Row("refused", "scope", 403, 1),
    429: Row("refused", "rate", 429, 1),
}
WITHOUT_OUTCOME = Row("used", "", None, 1)


@dataclass
class Counts:
    """The figures of a run, and every request that broke a promise."""

    rows: int = 0
    without_outcome: int = 0
    strangers_answered: int = 0
    strangers_counted: int = 0
    broken: list[str] = field(default_factory=list)


def count(requests: Sequence[Request], rows: Iterable[tuple[str, Row]], incidents: Sequence[Incident]) -> Counts:
    """Return what the log says of these requests; `rows` are those of the log with their request ids."""
    by_id: dict[str, list[Row]] = defaultdict(list)
    for request_id, row in rows:
        by_id[request_id].append(row)
    counts = Counts(rows=sum(map(len, by_id.values())))
    for request in requests:
        found = by_id.pop(request.id, [])
        for fault in [*_faults_of_answer(request, incidents), *_faults_of_rows(request, found, incidents)]:
            counts.broken.append(f"{fault}: {request} {found}")
        counts.without_outcome += WITHOUT_OUTCOME in found
        if request.kind == Kind.STRANGER:
            counts.strangers_answered += request.status == 401
            counts.strangers_counted += sum(row.count for row in found)
    counts.broken += [f"a row of a request that nobody sent: {name} {found}" for name, found in by_id.items()]
    if not _are_strangers_counted(counts, requests, incidents):
        counts.broken.append(f"unknown keys: {counts.strangers_answered} refused, {counts.strangers_counted} counted")
    return counts


def _faults_of_answer(request: Request, incidents: Sequence[Incident]) -> list[str]:
    if request.kind in GOOD_KINDS and request.status == 401:
        return ["a good key was refused"]
    if request.kind == Kind.ENDED and request.status == 200:
        return ["a deactivated key was let in"]
    if request.status not in {*STATUSES[request.kind], *FAILURES}:
        return ["an answer that nobody expects"]
    if request.status in FAILURES and not any(_accounts_for(incident, request) for incident in incidents):
        return ["a failure while nothing was amiss"]
    return []


def _accounts_for(incident: Incident, request: Request) -> bool:
    """Tell whether the incident is why this request was not answered, or with a failure."""
    is_hit = request.node == incident.node if request.status is None else request.kind in incident.hampered
    return is_hit and incident.meets(request)


def _faults_of_rows(request: Request, rows: Sequence[Row], incidents: Sequence[Incident]) -> list[str]:
    if len(rows) > 1:
        return ["more than one row"]
    if request.kind == Kind.STRANGER:
        # Bounded: most of them have no row of their own.
        return []
    if not rows:
        return [] if request.status in (None, 503) else ["no row"]
    if rows[0] == WITHOUT_OUTCOME:
        return [] if request.status == 503 or _may_have_lost_outcome(request, incidents) else ["no outcome"]
    if request.status in EXPECTED and rows[0] != EXPECTED[request.status]:
        return ["another row than that of its answer"]
    return []


def _may_have_lost_outcome(request: Request, incidents: Sequence[Incident]) -> bool:
    """Tell whether the worker was killed before it could write the outcome, or the database before its disk had it."""
    return any(
        (request.worker in incident.killed_workers and request.ended > incident.struck - LATE)
        or (request.status is None and request.node == incident.node and incident.meets(request))
        or (incident.loses_outcomes and incident.struck - LATE < request.ended < incident.over)
        for incident in incidents
    )


def _are_strangers_counted(counts: Counts, requests: Sequence[Request], incidents: Sequence[Incident]) -> bool:
    """Tell whether the refusals of unknown keys were counted, but for what a crash took along as it may."""
    strangers = [request for request in requests if request.kind == Kind.STRANGER]
    safe = sum(request.status == 401 and not _may_have_lost_outcome(request, incidents) for request in strangers)
    return safe <= counts.strangers_counted <= len(strangers)
