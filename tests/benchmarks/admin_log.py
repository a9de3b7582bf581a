"""How long the admin's audit log takes to open on PostgreSQL, with one page of rows and with millions.

python -m tests.benchmarks.admin_log --rows 10000000
"""

import argparse
import os
import statistics
import time
from collections.abc import Iterator

from tests.benchmarks.databases import databases

ROUNDS = 9
KEYS = 100
ONE_PAGE = 50


def pages() -> dict[str, str]:
    """Return the query strings of the log, by what is asked for; those that find nothing are the slowest."""
    return {
        "first page": "",
        "a page in the middle": "?before=2023-11-20T00:00:00%2B00:00_1000",
        "one key": "?key=7",
        "one day": "?when=2023-11-15",
        "refused ones, of which there are none": "?event__exact=refused",
        "server errors, of which there are none": "?status=5",
        "a path that nobody called": "?q=/nowhere",
        "an address that nobody came from": "?q=198.51.100.7",
        "a request id that nobody sent": "?q=f81d4fae-7dec-11d0",
        "the report on usage": "usage/?days=36500",
        "the report on the usage of one key": "usage/?days=36500&key=7",
        "refused ones of one key on one day": "?key=7&when=2023-11-15&event__exact=refused",
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.admin_log", description=__doc__)
    parser.add_argument("--server", default="postgres://postgres@127.0.0.1:5432/postgres")
    parser.add_argument("--rows", type=int, default=10_000_000)
    options = parser.parse_args()
    with databases("postgres", options.server) as create:
        os.environ |= {"DJANGO_SETTINGS_MODULE": "example_project.settings", "DATABASE_URL": create("admin_log")}
        with_one_page = dict(measured(ONE_PAGE))
        with_all = dict(measured(options.rows - ONE_PAGE))
    print(f"{'milliseconds, median of ' + str(ROUNDS):50}{ONE_PAGE:>12,} rows{options.rows:>14,} rows")
    for name, few in with_one_page.items():
        print(f"{name:50}{few:>17.0f}{with_all[name]:>19.0f}")


def measured(more_rows: int) -> Iterator[tuple[str, float]]:
    """Add so many rows and yield each page with the time that it takes, rendering included, in milliseconds."""
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.db import connection
    from django.test import Client
    from django.utils import timezone

    from keys.models import APIKey, AuditEvent
    from tests.benchmarks.population import fill_audit_log

    call_command("migrate", verbosity=0)
    if not APIKey.objects.exists():
        APIKey.objects.bulk_create(APIKey(name=f"Service {number}") for number in range(KEYS))
        AuditEvent.objects.all().delete()
        AuditEvent.objects.create(
            at=timezone.now(), event="used", key_name="Service", method="GET", path="/api/v1/x/", status=200,
            duration_ms=4, address="192.0.2.1", user_agent="python-requests/2.32.3", request_id="0" * 32,
        )  # fmt: skip
    fill_audit_log(KEYS, more_rows)
    client = Client()
    client.force_login(User.objects.get_or_create(username="admin", is_staff=True, is_superuser=True)[0])
    for name, query in pages().items():
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            status = client.get(f"/admin/keys/auditevent/{query}", headers={"host": "localhost"}).status_code
            times.append((time.perf_counter() - began) * 1000)
            if status != 200:
                raise RuntimeError(f"{name}: {status}")
        yield name, statistics.median(times)
    connection.close()


if __name__ == "__main__":
    main()
