"""Seal the audit log."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from keys.audit import log_identity, seal_files, sealing
from keys.audit.sealing import SealError
from keys.conf import DATABASE, configured
from keys.management.command import KeysCommand
from keys.management.output import OutputError
from keys.models import AuditSeal


class Command(KeysCommand):
    help = (
        'Seal the events of the audit log that are older than KEYS["SEAL_AFTER"]: a digest of each of them and the seal'
        " before, signed with the first key in the environment variable KEYS_SEAL_KEY. Each seal goes into the"
        " database, and out as one line of JSON for keys_verify --against: into a file on another machine, or to"
        " standard output. A seal whose line cannot be written is not made. May be run at any time and from several"
        " places at once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--rows", type=int, default=sealing.MOST_ROWS,
            help="How many rows one seal may hold, 1 to 100000 (default: %(default)s).",
        )  # fmt: skip
        parser.add_argument(
            "--append", metavar="FILE", type=Path,
            help="Append the lines to this file, which is made if there is none. Lines that it lacks are written again."
            " Fails if its last seal is not in this database: it belongs to another one.",
        )  # fmt: skip
        parser.add_argument(
            "--begin", action="store_true",
            help="Begin a new chain in the file of --append, after the database was restored from an older state.",
        )  # fmt: skip
        parser.add_argument(
            "--moved", action="store_true",
            help="With --append, once: this database is a copy, and goes on from here. It was moved or restored to"
            " another server, or it is a clone that has a file of its own.",
        )  # fmt: skip
        parser.add_argument(
            "--again", action="store_true",
            help="Make no seal: write out the lines of those that there are. Needs no key.",
        )  # fmt: skip
        parser.add_argument(
            "--from", type=int, default=1, metavar="NUMBER", dest="first",
            help="With --again: the number of the first seal to write (default: %(default)s).",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["rows"] <= 100_000:
            raise CommandError("--rows is a number from 1 to 100000.")
        if options["again"]:
            if options["append"] or options["begin"] or options["moved"]:
                raise CommandError("--again goes alone: --append writes what its file lacks by itself.")
            for seal in sealing.written_seals(options["first"]):
                self._write_out(seal)
            return
        if options["begin"] and options["append"] is None:
            raise CommandError("--begin needs --append: the file says which seals were lost.")
        if options["moved"]:
            self._move(options["append"])
        made = rows = 0
        with nullcontext() if options["append"] is None else seal_files.opened(options["append"]) as file:
            lost = 0 if file is None else file.match(begin=options["begin"])
            for seal in sealing.seal(options["rows"], self._write_out if file is None else file.append, lost):
                made, rows = made + 1, rows + seal.count
        if options["begin"] and not made:
            raise CommandError("No event is old enough to be sealed, so no new chain has begun: try again later.")
        self.note(f"Sealed {rows} events with {made} seals.")

    def _write_out(self, seal: AuditSeal) -> None:
        """Write the line of a seal to standard output. Raises SealError if it cannot be written."""
        try:
            self.stdout.write(seal_files.written(seal))
            self.output.deliver()
        except OutputError as error:
            raise SealError(f"Seal {seal.number} cannot be written to standard output: {error.reason}.") from error

    def _move(self, file: Path | None) -> None:
        if file is None:
            raise CommandError("--moved needs --append: without a file, any copy may be sealed.")
        if configured()["AUDIT_SINK"] != DATABASE:
            raise CommandError("The audit log has a stream: run `keys_ship --moved` or `keys_ship --new-log` instead.")
        if not log_identity.is_copy():
            raise CommandError("This database is no copy, as far as can be told: leave --moved out.")
        log_identity.make_new()
