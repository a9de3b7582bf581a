"""What a guarded request costs: this app beside its peers, on SQLite and PostgreSQL.

requests (the default) times them in-process and, with --http, through gunicorn; concurrency looks for requests that
wait for each other; size tells what one use takes on disk; gateway times requests through nginx with and without the
question to the auth service; summary prints the README's table from the --json of a run.
"""

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.benchmarks import chart, concurrency, gateway, over_http, report, row_size
from tests.benchmarks.databases import description
from tests.benchmarks.guards import GUARDS, REFUSAL, Guard
from tests.benchmarks.measure import Plan, measure

Document = dict[str, Any]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    add = parser.add_argument
    add("command", nargs="?", choices=["requests", "concurrency", "size", "gateway", "summary"], default="requests")
    add("--database", choices=["sqlite", "postgres", "both"], default="both")
    add(
        "--server",
        default=os.environ.get("DATABASE_URL", "postgres://postgres@127.0.0.1:5432/postgres"),
        help="URL of a PostgreSQL database, beside which the run makes and drops its own (default: %(default)s)",
    )
    add("--guards", default="", help="only those whose name contains one of these, comma-separated")
    add("--keys", default="1,10000,1000000", help="sizes of the key tables (default: %(default)s)")
    add("--requests", type=int, default=2000, help="timed requests per line (default: %(default)s)")
    add("--seconds", type=float, default=20.0, help="how long concurrency tries each guard (default: %(default)s)")
    add("--uses", type=int, default=100_000, help="requests before size measures (default: %(default)s)")
    add("--audit-rows", type=int, default=0, help="measure this app with an audit log of so many rows, too")
    add("--http", action="store_true", help="measure over HTTP as well, with gunicorn and wrk")
    add("--http-rounds", type=int, default=3, help="turns of 5 seconds for each guard (default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="write all figures; for summary, what to read")
    add("--svg", type=Path, metavar="FILE", help="draw the requests as a bar chart")
    add("--quick", action="store_true", help="1 and 1000 keys, 200 requests, 1 turn over HTTP, 5 seconds, 2000 uses")
    options = parser.parse_args()
    if options.quick:
        options.keys, options.requests, options.http_rounds = "1,1000", 200, 1
        options.seconds, options.uses = 5.0, 2000
    if options.command == "summary" and options.json is None:
        parser.error("summary reads the file that --json names.")
    options.engines = ["sqlite", "postgres"] if options.database == "both" else [options.database]
    options.guards = chosen_guards(options.guards)
    return options


def chosen_guards(names: str) -> list[Guard]:
    """Return the guards that are installed and whose name contains one of the comma-separated names."""
    guards = [guard for guard in GUARDS.values() if guard is not REFUSAL]
    chosen = [guard for guard in guards if any(name in guard.name for name in names.split(","))]
    for guard in chosen:
        if guard.installed_version() is None:
            progress(f"{guard.name} is left out: {guard.distribution} is not installed.")
    return [guard for guard in chosen if guard.installed_version() is not None]


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run_requests(options: argparse.Namespace, document: Document) -> None:
    document |= {"requests": [], "http": []}
    keys = [int(number) for number in options.keys.split(",")]
    for engine in options.engines:
        plan = Plan(engine, options.server, options.guards, keys, options.requests, options.audit_rows)
        results = measure(plan, progress)
        report.add_ratios(results)
        document["requests"] += results
        print(f"\n{document['engines'][engine]}\n\n{report.table(results)}", flush=True)
        if options.http:
            results = over_http.measure(engine, options.server, options.guards, options.http_rounds, 5, progress)
            document["http"] += results
            print(f"\n{report.http_table(results)}", flush=True)
    if options.svg:
        options.svg.write_text(chart.chart(document["requests"], document["engines"]))


def run_concurrency(options: argparse.Namespace, document: Document) -> None:
    # Peers without an audit log write nothing that could wait for anything.
    guards = [guard for guard in options.guards if guard.audit_model]
    document["concurrency"] = []
    for engine in options.engines:
        document["concurrency"] += concurrency.check(engine, options.server, guards, options.seconds, progress)
    print("\n\n".join(map(report.lines, document["concurrency"])))


def run_size(options: argparse.Namespace, document: Document) -> None:
    document["size"] = [row_size.check(engine, options.server, options.uses) for engine in options.engines]
    print("\n\n".join(map(report.lines, document["size"])))


def run_gateway(options: argparse.Namespace, document: Document) -> None:
    document["gateway"] = []
    for engine in options.engines:
        document["gateway"] += gateway.measure(engine, options.server, options.requests, progress)
    print(report.gateway_table(document["gateway"]))


def main() -> None:
    # So that a run that is told to stop drops its databases.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    options = parse_arguments()
    if options.command == "summary":
        print(report.summary(json.loads(options.json.read_text())))
        return
    document: Document = {
        "environment": report.environment(),
        "engines": {engine: description(engine, options.server) for engine in options.engines},
    }
    if document["environment"]["load_at_start"] > 0.5:
        progress("This machine is busy with something else: trust ratios within one run, and not too far.")
    commands = {"requests": run_requests, "concurrency": run_concurrency, "size": run_size, "gateway": run_gateway}
    commands[options.command](options, document)
    if options.json:
        report.write_json(options.json, document)


if __name__ == "__main__":
    main()
