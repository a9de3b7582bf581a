"""Verify the audit log against its seals."""

import json
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from keys.audit import seal_files, verifying
from keys.audit.verifying import Findings
from keys.management import arguments
from keys.management.command import Encoder, KeysCommand
from keys.moments import exactly

SHOWN = 10


class Command(KeysCommand):
    help = (
        "Verify that the audit log is as it was sealed: names the first row that was altered, is missing or was added,"
        " or the first seal, and exits with status 1. Rows that retention has taken may be missing. Needs the keys in"
        " KEYS_SEAL_KEY that the seals were signed with."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--against", metavar="FILE", type=Path,
            help="Compare the seals with the lines that keys_seal wrote. Without this, nobody can see"
            " that the newest seals were cut off, or that all were made anew by somebody who has the key.",
        )  # fmt: skip
        parser.add_argument(
            "--keep", metavar="TIME",
            help="How long rows have to be kept, such as 365d: younger ones may not be missing, whatever the log says"
            " of its retention.",
        )  # fmt: skip
        parser.add_argument(
            "--json", action="store_true",
            help="Write a JSON object: ok, seals, rows, pruned, unsealed, last_sealed, counts (altered, missing, added)"
            f" and problems, the first {verifying.MOST_NAMED}, each with kind, seal, row and text; concluded_later,"
            " back_dated and filled_later, each with count and first; and lost, seals that were lost when a new chain"
            " began, like problems.",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        kept = None if options["against"] is None else seal_files.read(options["against"])
        keep = timedelta(0) if options["keep"] is None else arguments.duration(options["keep"])
        findings = verifying.verify(kept, keep)
        if options["json"]:
            found = {"ok": not findings.problems, **asdict(findings)}
            self.stdout.write(json.dumps(found, indent=2, cls=Encoder))
        else:
            self._report(findings)
        if kept is None:
            self.note("Seals that were cut off at the end, or all made anew with the key, show with --against alone.")
        if findings.problems:
            sys.exit(1)

    def _report(self, findings: Findings) -> None:
        for problem in findings.problems[:SHOWN]:
            self.stdout.write(self.style.ERROR(problem.text))
        if (more := sum(findings.counts.values()) - SHOWN) > 0:
            self.stdout.write(self.style.ERROR(f"And {more} more."))
        for lost in findings.lost[:SHOWN]:
            self.stdout.write(lost.text)
        last = f", the last of {exactly(findings.last_sealed)}" if findings.last_sealed else ""
        self.stdout.write(f"Seals: {findings.seals}{last}. Rows verified: {findings.rows}.")
        for text, count, first in (
            ("Gone, as retention says", findings.pruned, None),
            ("Not sealed yet", findings.unsealed, None),
            ("Got their outcome after the seal", findings.concluded_later.count, findings.concluded_later.first),
            ("Came late, or were given an earlier time", findings.back_dated.count, findings.back_dated.first),
            ("Hold what their seal does not cover", findings.filled_later.count, findings.filled_later.first),
        ):
            if count:
                self.stdout.write(f"{text}: {count}" + (f", the first of them row {first}." if first else "."))
