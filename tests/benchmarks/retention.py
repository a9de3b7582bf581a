"""How long a month of the audit log takes to forget on PostgreSQL, and what writers notice of it.

python -m tests.benchmarks.retention --rows 5000000
"""

import argparse
import os
import statistics
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.benchmarks.databases import databases

# For how long the writer writes before, and how long after.
ALONE = 3.0


@dataclass
class Writer:
    """Writes one event after the other into the log, each with a commit of its own, and notes how long each took."""

    times: list[tuple[float, float]] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._has_begun, self._may_end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> "Writer":
        self._thread.start()
        self._has_begun.wait()
        return self

    def __exit__(self, *raised: object) -> None:
        self._may_end.set()
        self._thread.join()

    def _write(self) -> None:
        from django.db import connections
        from django.utils import timezone

        from keys.audit import statements
        from tests.support.log import row

        while not self._may_end.is_set():
            began = time.perf_counter()
            try:
                statements.insert(row(at=timezone.now()))
            except Exception as error:
                self.errors.append(error)
            self.times.append((began, time.perf_counter() - began))
            self._has_begun.set()
        connections.close_all()

    def waits(self, begin: float, end: float) -> list[float]:
        """Return how long the writes took, in seconds, that were under way between two moments."""
        return [took for began, took in self.times if began < end and began + took > begin]


@dataclass
class Result:
    """What was measured; times are in seconds."""

    dropped: int
    took: float
    written: int
    failed: int
    longest_wait: float
    usual_wait: float
    longest_wait_alone: float
    log_bytes: int
    freed_bytes: int


def begin_months_ago(months: int) -> datetime:
    """Give an empty log partitions from so many months ago on; return the first month."""
    from django.utils import timezone

    from keys.audit import partitions
    from keys.audit.partitions import between, execute, log_table, month_of

    first, past = month_of(timezone.now(), -months), f"{log_table().name}_past"
    execute(log_table().detach(past))
    execute(log_table().attach(past, between(None, first)))
    for later in range(months):
        partitions.make(month_of(first, later))
    return first


def fill(month: datetime, rows: int) -> None:
    """Write so many events of a month, as many of each of a hundred keys."""
    from keys.audit.partitions import execute, month_of
    from keys.models import AuditEvent

    values: dict[str, str] = {
        "at": "%s::timestamptz + n * %s * interval '1 second'", "event": "'used'", "api_key_id": "1 + n %% 100",
        "key_name": "'Service ' || n %% 100", "key_prefix": "'01234567'", "method": "'GET'", "path": "'/api/v1/x/'",
        "status": "200", "duration_ms": "4", "address": "'192.0.2.1'::inet", "request_id": "md5(n::text)",
        "user_agent": "'python-requests/2.32.3'", "count": "1",
    }  # fmt: skip
    fields = [each for each in AuditEvent._meta.concrete_fields if not each.primary_key]
    columns = [str(each.column) for each in fields]
    selected = ", ".join(values.get(str(each.column), "NULL" if each.null else "''") for each in fields)
    seconds = (month_of(month, 1) - month).total_seconds() / (rows + 1)
    execute(
        f"INSERT INTO {AuditEvent._meta.db_table} ({', '.join(columns)})"
        f" SELECT {selected} FROM generate_series(1, %s) AS n",
        [month, seconds, rows],
    )
    execute(f"ANALYZE {AuditEvent._meta.db_table}")


def drop(month: datetime, alone: float = ALONE) -> Result:
    """Drop a month while somebody writes, who is alone for so many seconds before and after it."""
    from django.core.management import call_command
    from django.utils import timezone

    from keys.audit.partitions import execute, month_of, present

    (size,) = (partition.size for partition in present() if partition.since == month)
    age = (timezone.now() - month_of(month, 1)).days
    with Writer() as writer:
        time.sleep(alone)
        log_before, begin = write_ahead_position(), time.perf_counter()
        call_command("keys_partition", older_than=f"{age}d", verbosity=0)
        end, log_after = time.perf_counter(), write_ahead_position()
        time.sleep(alone)
    ((dropped,),) = execute("SELECT sum(count) FROM keys_auditevent WHERE event = 'pruned'")
    during, before = writer.waits(begin, end), writer.waits(0, begin)
    return Result(
        dropped=dropped,
        took=end - begin,
        written=len(during),
        failed=len(writer.errors),
        longest_wait=max(during),
        usual_wait=statistics.median(before),
        longest_wait_alone=max(before),
        log_bytes=log_after - log_before,
        freed_bytes=size,
    )


def write_ahead_position() -> int:
    from keys.audit.partitions import execute

    return int(execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")[0][0])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.retention", description=__doc__)
    parser.add_argument("--server", default="postgres://postgres@127.0.0.1:5432/postgres")
    parser.add_argument("--rows", type=int, default=5_000_000)
    options = parser.parse_args()
    with databases("postgres", options.server) as create:
        os.environ |= {"DJANGO_SETTINGS_MODULE": "example_project.settings", "DATABASE_URL": create("retention")}
        import django

        django.setup()
        from django.conf import settings
        from django.core.management import call_command
        from django.db import connection

        from keys.audit.partitions import execute

        # A log of queries would be kept of every write.
        settings.DEBUG = False
        call_command("migrate", verbosity=0)
        fill(month := begin_months_ago(2), options.rows)
        # A month that long ago has been on the disk for long.
        execute("CHECKPOINT")
        result = drop(month)
        connection.close()
    for text in report(result):
        print(text)


def report(result: Result) -> list[str]:
    """Return the lines that people read."""
    lines: dict[str, Any] = {
        "rows dropped": f"{result.dropped:,}",
        "keys_partition took": f"{result.took:.2f} s",
        "disk given back": f"{result.freed_bytes / 1e6:,.0f} MB",
        "write-ahead log, the writer's included": f"{result.log_bytes / 1e6:,.1f} MB",
        "writes meanwhile": f"{result.written:,}, of which {result.failed} failed",
        "the longest of them": f"{result.longest_wait * 1000:,.0f} ms",
        "before: usual, longest": f"{result.usual_wait * 1000:,.1f} ms, {result.longest_wait_alone * 1000:,.0f} ms",
    }
    return [f"{name + ':':42}{value}" for name, value in lines.items()]


if __name__ == "__main__":
    main()
