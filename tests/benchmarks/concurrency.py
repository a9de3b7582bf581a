"""Whether requests with one and the same key get in each other's way."""

import collections
import time
from collections.abc import Callable, Sequence
from typing import Any

from tests.benchmarks import tracing, worker
from tests.benchmarks.databases import databases
from tests.benchmarks.guards import Case, Guard
from tests.benchmarks.processes import Service

PROCESSES = 4
THREADS = 8
POLL_SECONDS = 0.002

_WAITS = """
    SELECT locks.locktype, coalesce(pg_class.relname, ''), left(activity.query, 60)
    FROM pg_locks AS locks
    JOIN pg_stat_activity AS activity USING (pid)
    LEFT JOIN pg_class ON pg_class.oid = locks.relation
    WHERE NOT locks.granted AND activity.datname = current_database()
"""


def check(
    engine: str, server_url: str, guards: Sequence[Guard], seconds: float, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Return, per guard, answers by status, audit rows left and, on PostgreSQL, the lock waits seen."""
    run = _processes_on_sqlite if engine == "sqlite" else _threads_on_postgres
    results = []
    with databases(engine, server_url) as create:
        for number, guard in enumerate(guards):
            progress(f"{engine}: concurrent requests to {guard.name}")
            url = create(f"concurrency_{number}")
            with Service(guard.name, url) as service:
                case = Case("good key", service.call(worker.build, 1))
                before = service.call(tracing.audit_log)[0]
                found = run(service, guard, url, case, seconds)
                rows = service.call(tracing.audit_log)[0] - before
            results.append({"engine": engine, "guard": guard.name, **found, "audit_rows": rows})
    return results


def _processes_on_sqlite(service: Service, guard: Guard, url: str, case: Case, seconds: float) -> dict[str, Any]:
    others = [Service(guard.name, url) for _ in range(PROCESSES - 1)]
    statuses: collections.Counter[int] = collections.Counter()
    try:
        for other in others:
            other.call(tracing.audit_log)  # which waits until the process is up, so that all begin together
        for answers in [each.begin(worker.serve, case, seconds, 1) for each in (service, *others)]:
            statuses += answers.result()
    finally:
        for other in others:
            other.close()
    return {"at_once": f"{PROCESSES} processes", "statuses": dict(statuses)}


def _threads_on_postgres(service: Service, guard: Guard, url: str, case: Case, seconds: float) -> dict[str, Any]:
    import psycopg

    waits: collections.Counter[str] = collections.Counter()
    looks = 0
    with psycopg.connect(url, autocommit=True) as watcher:
        answers = service.begin(worker.serve, case, seconds, THREADS)
        while not answers.done():
            looks += 1
            waits.update(f"{kind} {table}: {query}" for kind, table, query in watcher.execute(_WAITS))
            time.sleep(POLL_SECONDS)
    return {
        "at_once": f"{THREADS} threads",
        "statuses": dict(answers.result()),
        "looks_at_pg_locks": looks,
        "lock_waits": dict(waits),
    }
