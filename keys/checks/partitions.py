"""What the partitions of the audit log ask for: `manage.py check --database`, and `migrate`."""

from collections.abc import Collection

from django.core import checks
from django.db import router

from ..audit.partitions import missing, present, strays
from ..models import AuditEvent

HINT = "Run `manage.py keys_partition` now, and each day from then on."


@checks.register(checks.Tags.database, "keys")
def check_partitions_are_kept(databases: Collection[str] | None = None, **kwargs: object) -> list[checks.CheckMessage]:
    if router.db_for_write(AuditEvent) not in (databases or ()) or not present():
        return []
    found = []
    if months := missing(ahead=1):
        listed = " and ".join(f"{month:%Y-%m}" for month in months)
        found.append(f"The audit log has no partition for {listed}.")
    if count := sum(strays().values()):
        found.append(f"The audit log's default partition holds {count} events, which no retention drops.")
    return [checks.Warning(text, hint=HINT, id="keys.W011") for text in found]
