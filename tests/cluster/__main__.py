"""Four nodes, PostgreSQL behind PgBouncer, and Redis, all killed in turn under load; then everything is counted.

Exits with 1 where a promise was broken. All of it is private to the run, and gone after it.
"""

import argparse
import signal
import sys

from tests.cluster.processes import ClusterError
from tests.cluster.report import text
from tests.cluster.run import run
from tests.cluster.stores import missing_packages


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is killed (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of peace before each time (default: %(default)s)")
    options = parser.parse_args()
    if missing := missing_packages():
        print(f"The cluster needs these packages of Debian: {', '.join(missing)}.", file=sys.stderr)
        return 2
    # As Ctrl-C does: what was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result = run(options.rounds, options.seconds, lambda line: print(line, file=sys.stderr, flush=True))
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    print(text(result))
    return 1 if result.counts.broken else 0


if __name__ == "__main__":
    sys.exit(main())
