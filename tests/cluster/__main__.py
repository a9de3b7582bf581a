"""Four nodes, PostgreSQL behind PgBouncer, and Redis, all killed in turn under load; then everything is counted.

Exits with 1 where a promise was broken. All of it is private to the run, and gone after it.
"""

import argparse
import signal
import sys

from tests.cluster.cluster import Sink
from tests.cluster.processes import ClusterError
from tests.cluster.report import text
from tests.cluster.run import Plan, run
from tests.cluster.stores import missing_packages


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="how often each is killed (default: %(default)s)")
    add("--seconds", type=float, default=2.0, help="of peace before each time (default: %(default)s)")
    add("--sink", type=Sink, choices=list(Sink), help="where the audit log goes (default: one run for each)")
    options = parser.parse_args()
    if missing := missing_packages():
        print(f"The cluster needs these packages of Debian: {', '.join(missing)}.", file=sys.stderr)
        return 2
    # As Ctrl-C does: what was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    broken = False
    try:
        for sink in [options.sink] if options.sink else Sink:
            result = run(Plan(sink, options.rounds, options.seconds), _progress)
            print(text(result), end="\n\n", flush=True)
            broken = broken or bool(result.counts.broken)
    except ClusterError as error:
        _progress(str(error))
        return 1
    except KeyboardInterrupt:
        _progress("Interrupted.")
        return 130
    return int(broken)


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
