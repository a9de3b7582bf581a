"""Seal the audit log."""

import json
from typing import Any

from django.core.management.base import CommandError, CommandParser

from keys.audit import sealing
from keys.management.command import KeysCommand


class Command(KeysCommand):
    help = (
        'Seal the events of the audit log that are older than KEYS["SEAL_AFTER"]: a digest of each of them and the seal'
        " before, signed with the first key in the environment variable KEYS_SEAL_KEY. Each seal goes into the"
        " database, and to standard output as one line of JSON: append it to a file on another machine, for"
        " keys_verify --against. May be run at any time and from several places at once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--rows", type=int, default=sealing.MOST_ROWS,
            help="How many rows one seal may hold, 1 to 100000 (default: %(default)s).",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["rows"] <= 100_000:
            raise CommandError("--rows is a number from 1 to 100000.")
        made = rows = 0
        for seal in sealing.seal(options["rows"]):
            self.stdout.write(json.dumps(seal.described()))
            self.stdout.flush()
            made, rows = made + 1, rows + seal.count
        self.note(f"Sealed {rows} events with {made} seals.")
