"""Delete old events."""

from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from keys.audit import retention
from keys.audit.reach import ahead
from keys.management import arguments
from keys.management.command import KeysCommand
from keys.moments import exactly


class Command(KeysCommand):
    help = (
        "Delete uses and refusals from the audit log that are older than a given time, in batches that let writers"
        " through. What was done to keys (created, rotated, deactivated ...) is kept unless --life-cycle is given."
        " The log gets an event that says how many rows went."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than", required=True, metavar="TIME", help="The age from which events go, such as 365d or 52w."
        )
        parser.add_argument(
            "--batch-size", type=int, default=retention.BATCH_SIZE,
            help="How many rows to delete in one transaction, 1 to 20000 (default: %(default)s).",
        )  # fmt: skip
        parser.add_argument("--life-cycle", action="store_true", help="Delete what was done to keys, too.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["batch_size"] <= 20_000:
            raise CommandError("--batch-size is a number from 1 to 20000.")
        before = timezone.now() - arguments.duration(options["older_than"])
        life_cycle, progress = options["life_cycle"], None
        if self.stderr.isatty() and options["verbosity"] > 0:
            progress = self._progress(retention.prunable(before, life_cycle=life_cycle).count())
        deleted = retention.prune(before, life_cycle=life_cycle, batch_size=options["batch_size"], progress=progress)
        self.note(f"Deleted {deleted} events from before {exactly(before)}. Reports begin there.")
        if count := ahead():
            self.note(f"{count} events have a time that is yet to come: a clock was wrong, and no age reaches them.")

    def _progress(self, total: int) -> Callable[[int], None]:
        def show(deleted: int) -> None:
            # Another prune may run, so more may be deleted than were counted.
            share = min(100, deleted * 100 // total) if total else 100
            line_end = "\n" if deleted >= total else ""
            self.stderr.write(f"\r{deleted} of {total} events, {share} %", style_func=str, ending=line_end)
            self.stderr.flush()

        return show
