"""Import the keys of another package."""

import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from keys.conf import conf
from keys.importing import packages, taking
from keys.management.command import KeysCommand


class Command(KeysCommand):
    help = (
        "Make keys of those that another package holds, so that their clients go on with the keys they have: of Django"
        " REST framework's authtoken, of djangorestframework-api-key or of knox, whose app has to be in"
        " INSTALLED_APPS. Nothing is changed there. Whether a key is active, when it was made and when it expires is"
        " taken over, and keys that are here already are left alone. Says what is lost on the way, and exits with"
        " status 1 if there are keys that cannot be taken over."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", choices=packages.SOURCES, help="Whose keys: %(choices)s.")
        parser.add_argument("--model", default="", help="A model of your own in place of the package's: app.Model.")
        scopes = parser.add_mutually_exclusive_group()
        scopes.add_argument(
            "--scope", action="append", dest="scopes", metavar="SCOPE",
            help='What the keys may do, such as users:read; may be repeated. Default: KEYS["DEFAULT_SCOPES"].',
        )  # fmt: skip
        scopes.add_argument("--no-scopes", action="store_true", help="Keys without scopes.")
        parser.add_argument("--dry-run", action="store_true", help="Say what would be done, and do nothing.")

    def handle(self, *args: Any, **options: Any) -> None:
        source = packages.SOURCES[options["source"]]
        scopes = [] if options["no_scopes"] else options["scopes"]
        try:
            model = packages.model_of(source, options["model"])
        except LookupError as error:
            raise CommandError(str(error.args[0])) from error
        with self.committed_once_written():
            report = taking.take_over(source.read(model), scopes=scopes, dry_run=options["dry_run"])
            self._tell(report, source, scopes, options["dry_run"])
        if report.left:
            sys.exit(1)

    def _tell(self, report: taking.Report, source: packages.Source, scopes: list[str] | None, dry_run: bool) -> None:
        held = ", ".join(conf.DEFAULT_SCOPES if scopes is None else scopes)
        verb = "would be imported" if dry_run else "imported"
        self.stdout.write(f"{report.imported} {verb}, with {f'the scopes {held}' if held else 'no scopes'}")
        self.stdout.write(f"{report.here_already} {'was' if report.here_already == 1 else 'were'} here already")
        for obstacle, count in report.left.most_common():
            self.stdout.write(f"{count} cannot be carried over: {obstacle}")
        self.stdout.write("Not carried over with any key:")
        for loss in source.losses:
            self.stdout.write(f"- {loss}")
