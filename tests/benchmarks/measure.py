"""Time every guard in one run, in small blocks by turns, so that whatever else the machine does falls on all alike."""

import contextlib
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks import tracing, worker
from tests.benchmarks.databases import CreateDatabase, databases
from tests.benchmarks.guards import FLOOR, FLOORS, OURS, Case, Guard
from tests.benchmarks.processes import Service
from tests.benchmarks.tracing import Trace
from tests.benchmarks.worker import Block

BLOCK = 25
LEAD_IN = 5
# About what a block of a slow guard may take. Its number of requests is fixed beforehand, as a block that stops when
# its time is up would leave out requests just where the machine is slow.
BLOCK_SECONDS = 0.25
TRACED = 20


@dataclass(frozen=True)
class Plan:
    """What to measure: `audit_rows` above 0 adds this app once more, with so many rows in its audit log."""

    engine: str
    server_url: str
    guards: Sequence[Guard]
    keys: Sequence[int]
    requests: int
    audit_rows: int = 0


@dataclass
class Line:
    """One line of the table, before and while it is measured."""

    engine: str
    guard: str
    case: str
    run_block: Callable[[], Block]
    keys: int | None = None
    audit_rows: int = 0
    trace: Trace | None = None
    blocks: list[Block] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return the line's figures; times in microseconds."""
        times = [nanoseconds / 1000 for block in self.blocks for nanoseconds in block.requests]
        # All the time of a block by its number of requests: what only some requests pay, such as a write in batches,
        # and what is put off until after the response are part of the price. The median of single requests hides both.
        prices = [(sum(block.requests) + block.settling) / len(block.requests) / 1000 for block in self.blocks]
        low, median, high = statistics.quantiles(prices, n=4)
        return {
            "engine": self.engine,
            "guard": self.guard,
            "case": self.case,
            "keys": self.keys,
            "audit_rows_before": self.audit_rows,
            "requests": len(times),
            "price_us": median,
            "lower_quartile_us": low,
            "upper_quartile_us": high,
            "single_request_us": statistics.median(times),
            "settling_us": sum(block.settling for block in self.blocks) / 1000 / len(times),
            "statements": self.trace and self.trace.statements,
            "exchanges": self.trace and self.trace.exchanges,
            "audit_rows_left": self.trace and self.trace.audit_rows,
            "audited": self.trace and self.trace.audited,
        }


def measure(plan: Plan, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return a summary per line: guards, their cases and, as the machine's floor, the bare database."""
    with contextlib.ExitStack() as stack:
        create = stack.enter_context(databases(plan.engine, plan.server_url))
        lines = _prepare(plan, stack, create, progress)
        # Quartiles need two.
        rounds = max(2, -(-plan.requests // BLOCK))
        for number in range(rounds):
            if number % 10 == 0:
                progress(f"{plan.engine}: round {number} of {rounds}")
            for line in random.sample(lines, len(lines)):
                line.blocks.append(line.run_block())
    return [line.summary() for line in lines]


def _prepare(
    plan: Plan, stack: contextlib.ExitStack, create: CreateDatabase, progress: Callable[[str], None]
) -> list[Line]:
    urls = {guard: create(f"floor{number}") for number, guard in enumerate(FLOORS)}
    floors = {guard: stack.enter_context(Service(guard.name, url)) for guard, url in urls.items()}
    floor = floors[FLOOR]
    lines = [
        Line(plan.engine, "a bare SELECT 1", "", lambda: floor.call(worker.bare_select, BLOCK, LEAD_IN)),
        Line(plan.engine, "a bare INSERT and its commit", "", lambda: floor.call(worker.bare_commit, BLOCK, LEAD_IN)),
    ]
    for guard, url in urls.items():
        lines += _lines(plan, guard, 0, 0, floors[guard], url)
    sites = [(guard, keys, 0) for keys in plan.keys for guard in plan.guards if guard not in FLOORS]
    if plan.audit_rows:
        sites.append((OURS, plan.keys[-1], plan.audit_rows))
    for number, (guard, keys, audit_rows) in enumerate(sites):
        progress(f"{plan.engine}: making {keys:,} keys and {audit_rows:,} audit rows for {guard.name}")
        url = create(f"{number}")
        service = stack.enter_context(Service(guard.name, url))
        lines += _lines(plan, guard, keys, audit_rows, service, url)
    return lines


def _lines(plan: Plan, guard: Guard, keys: int, audit_rows: int, service: Service, url: str) -> list[Line]:
    cases = guard.cases(service.call(worker.build, keys))
    if keys != plan.keys[-1] or audit_rows:
        cases = cases[:1]
    lines = []
    for case in cases:
        run_block = _block_of(service, case)
        with Service(guard.name, url) as watched:
            trace = watched.call(tracing.trace, case, TRACED)
        lines.append(Line(plan.engine, guard.name, case.name, run_block, keys or None, audit_rows, trace))
    if audit_rows:
        service.call(worker.build_audit_log, keys, audit_rows)
    service.call(worker.come_to_rest)
    return lines


def _block_of(service: Service, case: Case) -> Callable[[], Block]:
    """Warm the guard up, and return what runs a block of as many requests as its speed allows."""
    warm = service.call(worker.run, case, 3).requests[1:]
    requests = min(BLOCK, max(2, int(BLOCK_SECONDS * 1e9 / statistics.fmean(warm))))
    service.call(worker.run, case, 2 * requests)
    return lambda: service.call(worker.run, case, requests, LEAD_IN * requests // BLOCK)
