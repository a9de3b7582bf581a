"""Make the database refuse changes to the audit log."""

import sys
from typing import Any

from django.core.management.base import CommandParser

from keys.audit import grants, triggers
from keys.audit.triggers import Fault
from keys.endpoints import legacy_keyrings
from keys.management import arguments
from keys.management.command import KeysCommand

KINDS = {"missing": "Missing", "disabled": "Disabled", "outdated": "Made for other columns or settings"}


class Command(KeysCommand):
    help = (
        "Let the database refuse changes to the audit log and its seals: triggers for PostgreSQL and SQLite, which let"
        " nothing through but new rows, the outcome of a use and the count of a stranger's refusals; and the rights of"
        " a role for the web processes on PostgreSQL. Not for the databases of tests, which are flushed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        install = actions.add_parser("install", help="Make the triggers, or make them anew.")
        install.add_argument(
            "--keep", metavar="TIME",
            help="The age from which rows may be deleted, such as 365d, for keys_prune. Without it: never.",
        )  # fmt: skip
        actions.add_parser("remove", help="Drop the triggers.")
        status = actions.add_parser(
            "status",
            help="Name the triggers that are missing, disabled or out of date, and on PostgreSQL each role that can do"
            " more to the log than grants allows. Exit with status 1 if there are any.",
        )
        status.add_argument("--role", help="Look at the rights of this role alone.")
        rights = actions.add_parser(
            "grants",
            help="Write SQL for a role that can write the log but not alter it, whatever it was given before; where a"
            " view adopts the keys of another system, it may make keys. To be run by the owner of the tables.",
        )
        rights.add_argument("--role", required=True, help="The role that the web processes log in as.")

    def handle(self, *args: Any, **options: Any) -> None:
        match options["action"]:
            case "install":
                triggers.install(None if options["keep"] is None else arguments.duration(options["keep"]))
                self.note("The audit log is append-only now.")
            case "remove":
                triggers.remove()
                self.note("The audit log can be changed now.")
            case "status" if options["role"] is not None:
                self._report(
                    [each.sentence for each in grants.excess(options["role"])],
                    f"{options['role']} can add to the log, and alter nothing.",
                )
            case "status":
                self._report([*_faults(triggers.faults()), *self._excess()], "The audit log is append-only.")
            case "grants":
                adopts = any(ring.adopts for ring in legacy_keyrings())
                self.stdout.write("\n".join(grants.grants(options["role"], adopts=adopts)))

    def _excess(self) -> list[str]:
        if triggers.connection_to(*triggers.VENDORS).vendor != "postgresql":
            return []
        return [each.sentence for each in grants.excess()]

    def _report(self, problems: list[str], all_is_well: str) -> None:
        for problem in problems or [all_is_well]:
            self.stdout.write(problem)
        if problems:
            sys.exit(1)


def _faults(faults: list[Fault]) -> list[str]:
    """Return a sentence for each kind of fault, with the partitions beside the names of their triggers."""
    return [
        f"{title}: {', '.join(_named(fault) for fault in faults if fault.kind == kind)}."
        for kind, title in KINDS.items()
        if any(fault.kind == kind for fault in faults)
    ]


def _named(fault: Fault) -> str:
    return fault.name if fault.name.startswith(f"{fault.where}_no_") else f"{fault.name} on {fault.where}"
