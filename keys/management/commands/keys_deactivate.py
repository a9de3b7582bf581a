"""Deactivate a key."""

import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from keys.audit.reports import retirement
from keys.management import arguments
from keys.management.command import KeysCommand
from keys.redaction import printable


class Command(KeysCommand):
    help = (
        "Refuse a key from the next request on. Says first when and from where it was last used, and on a terminal"
        " asks whether to go on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("key", help="The id, prefix or name of the key; never the key itself.")
        parser.add_argument(
            "--no-input", "--noinput", action="store_false", dest="interactive", help="Do not ask, even on a terminal."
        )
        parser.add_argument(
            "--if-safe", action="store_true",
            help="Fail, and leave the key active, unless it has a successor and is not in use any more.",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        key = arguments.find_key(options["key"])
        label = printable(str(key))
        if not key.is_active:
            self.note(f"{label} is inactive already.")
            return
        report = retirement(key)
        if options["if_safe"] and not report.is_safe:
            raise CommandError(f"{label} stays active. {report.sentence}")
        self.note(f"{label}: {report.sentence}")
        if options["interactive"] and sys.stdin.isatty() and not self._confirmed():
            raise CommandError(f"{label} stays active.")
        key.deactivate()
        self.note(f"{label} is refused from now on.")

    def _confirmed(self) -> bool:
        # On standard error, because input() would ask on standard output, which is for the result.
        self.stderr.write("Deactivate it? [y/N] ", style_func=str, ending="")
        self.stderr.flush()
        return sys.stdin.readline().strip().lower() in {"y", "yes"}
