"""The results as a table for people and as JSON for programs."""

import json
import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.benchmarks.guards import FLOOR, GUARDS, OURS, REFERENCE

Result = Mapping[str, Any]

_ENGINES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}

COLUMNS = (
    "guard",
    "keys",
    "µs",
    "quartiles",
    "single request",
    "after it",
    "to floor",
    "to api-key",
    "SQL",
    "trips",
    "audit row",
    "requests",
)


def environment() -> dict[str, Any]:
    """Return what the figures depend on: interpreter, processor, what else ran, and the packages."""
    packages = {guard.distribution for guard in GUARDS.values() if guard.installed_version()}
    return {
        "python": platform.python_version(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "load_at_start": os.getloadavg()[0],
        "packages": {name: version(name) for name in sorted({"Django", "psycopg", "gunicorn", *packages})},
    }


def _processor() -> str:
    with Path("/proc/cpuinfo").open() as lines:
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def add_ratios(results: Iterable[dict[str, Any]]) -> None:
    """Relate each price to the floor's and to djangorestframework-api-key's with as many keys."""
    results = list(results)
    floors = {r["engine"]: r["price_us"] for r in results if r["guard"] == FLOOR.name}
    references = {(r["engine"], r["keys"]): r["price_us"] for r in results if r["guard"] == REFERENCE.name}
    for result in results:
        floor, reference = floors.get(result["engine"]), references.get((result["engine"], result["keys"]))
        result["times_floor"] = result["price_us"] / floor if floor else None
        result["times_api_key"] = result["price_us"] / reference if reference else None


def table(results: Iterable[Result]) -> str:
    """Return a Markdown table, which reads well in a terminal too."""
    return _markdown([COLUMNS, *(_cells(result) for result in results)])


def summary(document: Mapping[str, Any]) -> str:
    """Return the manual's table: ratios alone; of the peers those with the largest number of keys."""
    engines = list(document["engines"])
    rows: dict[str, dict[str, Result]] = {}
    most = max(result["keys"] or 0 for result in document["requests"])
    for result in document["requests"]:
        if result["audited"] is not None and (result["guard"] == OURS.name or result["keys"] in {None, most}):
            rows.setdefault(_label(result), {})[result["engine"]] = result
    header = [_ENGINES[engine] + column for engine in engines for column in (" to floor", " to api-key", " SQL")]
    table = [("A request guarded by", *header, "audit row")]
    for label, by_engine in rows.items():
        cells = [
            _number(by_engine[engine][figure])
            for engine in engines
            for figure in ("times_floor", "times_api_key", "statements")
        ]
        table.append((label, *cells, _audit(by_engine[engines[0]])))
    return _markdown(table)


def _label(result: Result) -> str:
    keys = f", {result['keys']:,} key{'s' * (result['keys'] > 1)}" if result["keys"] else ""
    return _name(result) + keys


def http_table(results: Iterable[Result]) -> str:
    """Return a Markdown table of the runs over HTTP."""
    header = ("guard", "requests/s", "lowest-highest", "median ms", "p99 ms", "not 200", "answered", "audit rows")
    rows = [
        (
            result["guard"],
            f"{result['requests_per_second']:,.0f}",
            f"{result['lowest']:,.0f}-{result['highest']:,.0f}",
            f"{result['median_ms']:.1f}",
            f"{result['p99_ms']:.1f}",
            f"{result['not_ok']:,.0f}",
            f"{result['answered']:,}" if "answered" in result else "",
            f"{result['audit_rows']:,}" if "audit_rows" in result else "",
        )
        for result in results
    ]
    return _markdown([header, *rows])


def gateway_table(results: Iterable[Result]) -> str:
    """Return a Markdown table of the requests through nginx."""
    header = ("through nginx", "database", "connections", "ms", "times", "ms more", "requests/s")
    rows = [
        (
            result["arm"],
            _ENGINES[result["engine"]],
            str(result["connections"]),
            f"{result['median_ms']:.2f}",
            _number(result["times"]),
            f"{result['more_ms']:.2f}",
            f"{result['requests_per_second']:,.0f}",
        )
        for result in results
    ]
    return _markdown([header, *rows])


def lines(result: Result) -> str:
    """Return a result as a name and a value per line."""
    flat: list[tuple[str, Any]] = []
    for name, value in result.items():
        flat += (
            [(f"{name}, {inner}", figure) for inner, figure in value.items()]
            if isinstance(value, dict)
            else [(name, value)]
        )
    return "\n".join(
        f"{name}: {value:,.1f}" if isinstance(value, float) else f"{name}: {value}" for name, value in flat
    )


def _cells(result: Result) -> tuple[str, ...]:
    return (
        _name(result),
        f"{result['keys']:,}" if result["keys"] else "",
        f"{result['price_us']:,.0f}",
        f"{result['lower_quartile_us']:,.0f}-{result['upper_quartile_us']:,.0f}",
        f"{result['single_request_us']:,.0f}",
        f"{result['settling_us']:,.0f}",
        _number(result["times_floor"]),
        _number(result["times_api_key"]),
        _number(result["statements"]),
        _number(result["exchanges"]),
        _audit(result),
        f"{result['requests']:,}",
    )


def _name(result: Result) -> str:
    name = str(result["guard"])
    if result["case"] not in {"", "good key"}:
        name += f": {result['case']}"
    if result["audit_rows_before"]:
        name += f", {result['audit_rows_before']:,} audit rows"
    return name


def _audit(result: Result) -> str:
    if result["audited"] is None:
        return ""
    if result["audited"] < 1:
        return "no"
    return "yes" if result["audit_rows_left"] >= 1 else "counted"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}".rstrip("0").rstrip(".")


def _markdown(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ("-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:]))
    aligned = (
        (first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)))
        for first, *others in (rows[0], rule, *rows[1:])
    )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in aligned)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n")
