"""Make the database refuse changes to the audit log."""

import sys
from typing import Any

from django.core.management.base import CommandParser

from keys.audit import triggers
from keys.management import arguments
from keys.management.command import KeysCommand


class Command(KeysCommand):
    help = (
        "Let the database refuse changes to the audit log and its seals: triggers for PostgreSQL and SQLite, which let"
        " nothing through but new rows, the outcome of a use and the count of a flood; and the rights of a role for"
        " the web processes on PostgreSQL. Not for the databases of tests, which are flushed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        install = actions.add_parser("install", help="Make the triggers, or make them anew.")
        install.add_argument(
            "--keep", metavar="TIME",
            help="The age from which rows may be deleted, such as 365d, for keys_prune. Without it: never.",
        )  # fmt: skip
        actions.add_parser("remove", help="Drop the triggers.")
        actions.add_parser("status", help="Name the triggers that are missing, and exit with status 1 if any is.")
        grants = actions.add_parser("grants", help="Write SQL for a role that can write the log but not alter it.")
        grants.add_argument("--role", required=True, help="The role that the web processes log in as.")

    def handle(self, *args: Any, **options: Any) -> None:
        match options["action"]:
            case "install":
                triggers.install(None if options["keep"] is None else arguments.duration(options["keep"]))
                self.note("The audit log is append-only now.")
            case "remove":
                triggers.remove()
                self.note("The audit log can be changed now.")
            case "status":
                self._report(triggers.missing())
            case "grants":
                self.stdout.write("\n".join(triggers.grants(options["role"])))

    def _report(self, missing: list[str]) -> None:
        if missing:
            self.stdout.write(f"Missing: {', '.join(missing)}.")
            sys.exit(1)
        self.stdout.write("The audit log is append-only.")
