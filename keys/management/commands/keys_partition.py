"""Maintain the audit log's partitions on PostgreSQL."""

from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.template.defaultfilters import filesizeformat
from django.utils import timezone

from keys.audit import partitions, retention
from keys.audit.partitions import Partition
from keys.audit.reach import ahead
from keys.management import arguments
from keys.management.command import KeysCommand, Line, write_table

HEADINGS = ["PARTITION", "SINCE", "BEFORE", "EVENTS", "SIZE", "NOTES"]
NO_PARTITIONS = "On this database the audit log is one table, without partitions; keys_prune deletes what is old."


class Command(KeysCommand):
    help = (
        "On PostgreSQL, where the audit log has a partition for each month (UTC): make those of the months ahead, move"
        " events that found none out of the default partition, and with --older-than drop whole months, which takes"
        " a moment whatever they hold, and delete what is as old and lies in no month, such as events of a dead clock."
        " What was done to keys is kept unless --life-cycle is given. Lists the partitions then."
        " To be run each day; it may run at any time and from several places at once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than", metavar="TIME", help="The age from which whole months go, such as 365d; default: none go."
        )
        parser.add_argument(
            "--ahead", type=int, default=partitions.AHEAD, metavar="MONTHS",
            help="For how many months after this one to make partitions, 1 to 120 (default: %(default)s).",
        )  # fmt: skip
        parser.add_argument("--life-cycle", action="store_true", help="Drop what was done to keys, too.")
        parser.add_argument(
            "--wait", default="30s", metavar="TIME",
            help="How long to try while another transaction holds the log (default: %(default)s).",
        )  # fmt: skip
        parser.add_argument("--dry-run", action="store_true", help="Say what would be done, and do nothing.")
        parser.add_argument(
            "--json", action="store_true",
            help="Write a JSON array of objects: name, is_default, since, until (ISO 8601; null without a bound), rows"
            " (an estimate, but exact where they were dropped), size (bytes with indexes), action (made, dropped,"
            " pruned where events were deleted of the time before all months, or empty; with --dry-run, what would be"
            " done).",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["ahead"] <= 120:
            raise CommandError("--ahead is a number from 1 to 120.")
        older_than = options["older_than"] and arguments.duration(options["older_than"])
        before = timezone.now() - older_than if older_than else None
        patience = arguments.duration(options["wait"]).total_seconds()
        if not partitions.present():
            if before is not None:
                raise CommandError(NO_PARTITIONS)
            self.note(NO_PARTITIONS)
            listed = []
        elif options["dry_run"]:
            listed = self._plan(options["ahead"], before, options["life_cycle"])
        else:
            listed = self._work(options["ahead"], before, options["life_cycle"], patience)
        if listed and (count := ahead()):
            self.note(f"{count} events have a time that is yet to come: a clock was wrong, and no age reaches them.")
        if options["json"]:
            self.write_json([{**asdict(partition), "action": action} for partition, action in listed])
        elif listed and self.verbosity > 0:
            write_table(self.stdout, HEADINGS, [_line(*each) for each in listed], self.style.MIGRATE_HEADING)

    def _work(
        self, months: int, before: datetime | None, life_cycle: bool, patience: float
    ) -> list[tuple[Partition, str]]:
        made, gone, deleted = [], [], 0
        while name := partitions.gather(patience):
            made.append(name)
            self.note(f"Made {name} for events in the default partition.")
        for month in partitions.missing(months):
            if partitions.make(month, patience):
                made.append(partitions.log_table().of_month(month))
                self.note(f"Made {made[-1]}.")
        if before is not None:
            for partition, count in retention.drop_months(before, life_cycle=life_cycle, patience=patience):
                gone.append((replace(partition, rows=count), "dropped"))
                self.note(f"Dropped {partition.name} with {count} events.")
            deleted = retention.delete_outside_months(before, life_cycle=life_cycle)
        if deleted:
            self.note(f"Deleted {deleted} events from the time before all months.")
        return [
            *gone,
            *((each, "made" if each.name in made else _pruned(each, deleted)) for each in partitions.present()),
        ]

    def _plan(self, months: int, before: datetime | None, life_cycle: bool) -> list[tuple[Partition, str]]:
        going = [] if before is None else retention.droppable(before)
        table = partitions.log_table()
        coming = dict.fromkeys(partitions.missing(months), 0) | partitions.strays()
        deleted = 0 if before is None else retention.outside_months(before, life_cycle=life_cycle).count()
        planned = [
            (each, "dropped" if each in going else _pruned(each, deleted)) for each in partitions.present()
        ]  # fmt: skip
        planned += [
            (Partition(table.of_month(month), False, month, partitions.month_of(month, 1), rows, 0), "made")
            for month, rows in sorted(coming.items())
        ]
        self.note(f"Nothing is done: {len(coming)} partitions would be made and {len(going)} dropped.")
        if deleted:
            self.note(f"{deleted} events from the time before all months would be deleted.")
        return planned


def _pruned(partition: Partition, deleted: int) -> str:
    return "pruned" if deleted and partition.since is None and not partition.is_default else ""


def _line(partition: Partition, action: str) -> Line:
    since, until = (f"{bound:%Y-%m-%d}" if bound else "" for bound in (partition.since, partition.until))
    size = filesizeformat(partition.size).replace("\xa0", " ")
    return Line([partition.name, since, until, partition.rows, size, action])
