"""Import the keys of another system."""

import sys
from collections import Counter
from contextlib import nullcontext
from typing import Any

from django.core.management.base import CommandError, CommandParser

from keys.conf import conf
from keys.importing import granting, hashes, packages, tables, taking
from keys.importing.granting import Grants, ScopeMapError
from keys.importing.tables import Table, TableError
from keys.importing.taking import Report, StrangeTableError
from keys.management.command import KeysCommand
from keys.management.output import Progress
from keys.models.key_origin import source_of
from keys.models.validators import validate_scopes
from keys.redaction import printable

FIELDS = {
    "key": "The field of the key, or of its digest.",
    "name": "The field of its name. Default: the model's and the primary key.",
    "active": "The field that says whether it is active: yes or no, 1 or 0, or a word such as active.",
    "revoked": "The field that says whether it is revoked: yes or no, or the moment; nothing means no.",
    "created": "The field of the moment at which it was made. Default: now.",
    "expires": "The field of the moment at which it expires; nothing means never.",
    "owner": 'The field of its owner: a relation to a model in KEYS["OWNERS"], a reference such as auth.user:7, or a'
    " primary key, if that names one model.",
    "prefix": "The field of the beginning of the key that people saw.",
    "scope_field": "The field of its scopes: a list, or words between commas or blanks.",
}


class Command(KeysCommand):
    help = (
        "Make keys of those that another system holds, so that their clients go on with the keys they have: of Django"
        " REST framework's authtoken, of djangorestframework-api-key or of knox, whose app has to be in"
        " INSTALLED_APPS; or of any table, by --model, --key and --digest. Fields are named as in queries, such as"
        " user__username. Nothing is changed there. A second run leaves alone what is here already, brings what is"
        " new, and says which records are no longer good there while their keys are accepted here. All come, or none."
        " Exits with status 1 if there are records that cannot come, or that have changed there."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "source", nargs="?", choices=packages.PACKAGES, help="A package whose keys are known: %(choices)s."
        )
        parser.add_argument(
            "--model", default="", metavar="MODEL",
            help="The model of any table, app.Model; after the name of a package, one of your own like the package's.",
        )  # fmt: skip
        for role, text in FIELDS.items():
            parser.add_argument(_option(role), dest=role, default="", metavar="FIELD", help=text)
        parser.add_argument(
            "--digest", default="", choices=hashes.KINDS,
            help="What that field holds: the key itself (plain), or a digest of it, hexadecimal, in Base64 or binary.",
        )  # fmt: skip
        scopes = parser.add_mutually_exclusive_group()
        scopes.add_argument(
            "--scope", action="append", dest="scopes", metavar="SCOPE",
            help='What all of the keys may do, such as users:read; may be repeated. Default: KEYS["DEFAULT_SCOPES"].',
        )  # fmt: skip
        scopes.add_argument("--no-scopes", action="store_true", help="Keys without scopes.")
        scopes.add_argument(
            "--scope-map", default="", metavar="FILE",
            help='A file, {"value": ["orders:read"]}: the scopes for each value of --scope-field, or for each name.',
        )  # fmt: skip
        parser.add_argument("--database", default="", metavar="ALIAS", help="The database of the table.")
        parser.add_argument(
            "--system", default="", metavar="NAME",
            help="The name by which the records are remembered, such as the `source` of a LegacyKeyring. Default: the"
            " model's.",
        )  # fmt: skip
        parser.add_argument(
            "--deactivate", action="store_true",
            help="Deactivate the keys that came before and whose records are no longer good there.",
        )  # fmt: skip
        parser.add_argument("--dry-run", action="store_true", help="Say what would be done, and do nothing.")
        parser.add_argument("--json", action="store_true", help="Say it as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        package = packages.PACKAGES[options["source"]] if options["source"] else None
        try:
            table = self._table(package, options)
        except (TableError, ScopeMapError) as error:
            raise CommandError(str(error)) from error
        self._source = source_of(options["system"] or table.model)
        self._dry_run = options["dry_run"]
        try:
            # A dry run is in no transaction: it takes a while, and nobody is to wait for it.
            with nullcontext() if self._dry_run else self.committed_once_written():
                report = self._take(table, options)
                self._tell(report, table, package, options["json"])
        except StrangeTableError as error:
            raise CommandError(str(error)) from error
        if report.left or len(report.changed) > report.deactivated:
            sys.exit(1)

    def _table(self, package: packages.Package | None, options: dict[str, Any]) -> Table:
        paths = {role: options[role] for role in tables.ROLES if options[role]}
        grants = self._grants(options)
        if package is not None:
            for name in ("key", "digest"):
                if options[name]:
                    raise CommandError(
                        f"--{name} is for keys_import --model without the name of a package:"
                        f" which field of {options['source']} holds what is known."
                    )
            return package.table(options["model"], paths, grants, options["database"])
        if not options["model"]:
            raise CommandError(
                f"Say whose keys: {', '.join(packages.PACKAGES)}, or any table by"
                f" --model app.Model --key FIELD --digest {'|'.join(hashes.KINDS)}."
            )
        for name in ("key", "digest"):
            if not options[name]:
                raise CommandError(f"--model {options['model']} needs --{name}: {WANTED[name]}")
        return Table(tables.find_model(options["model"]), paths, options["digest"], grants, options["database"])

    def _grants(self, options: dict[str, Any]) -> Grants:
        by_field = bool(options["scope_field"])
        if by_field and (options["scopes"] or options["no_scopes"]):
            raise CommandError("--scope-field says the scopes of each key: leave --scope and --no-scopes out.")
        same = [] if options["no_scopes"] else options["scopes"]
        if not by_field and not options["scope_map"]:
            validate_scopes(conf.DEFAULT_SCOPES if same is None else same)
        mapped = granting.read_map(options["scope_map"]) if options["scope_map"] else None
        return Grants(same, by_field, mapped)

    def _take(self, table: Table, options: dict[str, Any]) -> Report:
        progress = Progress(self.stderr, lambda: len(table), "records", is_quiet=self.verbosity < 1)
        with progress:
            return taking.take_over(
                table.pages(),
                self._source,
                dry_run=options["dry_run"],
                deactivates=options["deactivate"],
                progress=progress.add,
            )

    def _tell(self, report: Report, table: Table, package: packages.Package | None, as_json: bool) -> None:
        losses = package.losses if package is not None else ()
        if as_json:
            self.write_json(self._as_json(report, table, losses))
            return
        verb = "would be imported" if self._dry_run else "imported"
        self.stdout.write(f"{report.imported} {verb}, with {_scopes_in_words(table.grants)}")
        self.stdout.write(f"{report.here_already} {_was(report.here_already)} here already")
        if report.deleted_here:
            self.stdout.write(f"{report.deleted_here} came before and {_was(report.deleted_here)} deleted here")
        if report.changed:
            self.stdout.write(
                f"{len(report.changed)} changed there since, and {_was(len(report.changed))} accepted here"
            )
        if report.deactivated:
            verb = "would be deactivated" if self._dry_run else "deactivated"
            self.stdout.write(f"{report.deactivated} of them {verb}")
        for reason, count in Counter(record.reason for record in report.left).most_common():
            self.stdout.write(f"{count} cannot be carried over: {reason}")
        for record in report.left:
            self.stdout.write(f"{record.shown}: {record.reason}")
        for one in report.changed:
            self.stdout.write(f"{one.shown} {one.what}: key {one.key_id}, {printable(one.key)}, is accepted here")
        if losses:
            self.stdout.write("Not carried over with any key:")
        for loss in losses:
            self.stdout.write(f"- {loss}")

    def _as_json(self, report: Report, table: Table, losses: tuple[str, ...]) -> dict[str, Any]:
        return {
            "source": self._source,
            "dry_run": self._dry_run,
            "imported": report.imported,
            "here_already": report.here_already,
            "deleted_here": report.deleted_here,
            "deactivated": report.deactivated,
            "left": [{"record": record.shown, "reason": record.reason} for record in report.left],
            "changed_there": [
                {"record": one.shown, "what": one.what, "key_id": one.key_id, "key": printable(one.key)}
                for one in report.changed
            ],
            "not_carried_over": list(losses),
        }


WANTED = {
    "key": "the field of the key, or of its digest.",
    "digest": "what that field holds. plain is for keys that can be read there; a digest taken for one would become a"
    " working key.",
}


def _option(role: str) -> str:
    return f"--{role.replace('_', '-')}"


def _was(count: int) -> str:
    return "was" if count == 1 else "were"


def _scopes_in_words(grants: Grants) -> str:
    if grants.differ:
        return "the scopes that " + ("the map gives" if grants.mapped is not None else "the field names")
    held = ", ".join(conf.DEFAULT_SCOPES if grants.same is None else grants.same)
    return f"the scopes {held}" if held else "no scopes"
