"""Replace a key with a successor."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from keys.audit.reports import ago
from keys.management import arguments
from keys.management.command import KeysCommand
from keys.models.fields import Digest
from keys.moments import exactly
from keys.redaction import printable


class Command(KeysCommand):
    help = (
        "Make a successor with the same name, scopes and limits, and write its key to standard output, the only time it"
        " can be read. The old key is accepted for the grace, and never longer than before. A key that has a successor"
        " already gets no other: the command fails."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("key", help="The id, prefix or name of the key; never the key itself.")
        parser.add_argument(
            "--grace", metavar="TIME",
            help='How long the old key goes on, such as 12h or 7d; 0 ends it at once. Default: KEYS["ROTATION_GRACE"].',
        )  # fmt: skip
        parser.add_argument("--reason", default="", help="Why, in words for the log. Never a key.")

    def handle(self, *args: Any, **options: Any) -> None:
        grace = None if options["grace"] is None else arguments.duration(options["grace"])
        reason = arguments.reason(options["reason"])
        key = arguments.find_key(options["key"])
        with self.committed_once_written(key):
            successor = key.rotate(grace, reason=reason)
            if isinstance(successor.key, Digest):
                raise CommandError(
                    f"{printable(str(key))} was already rotated {ago(successor.created_at)}: its successor is"
                    f" {printable(str(successor))}, whose key was shown then and cannot be shown again."
                )
            self.write_secret(successor)
        end = "refused from now on"
        if key.expires_at is not None and not key.has_expired:
            end = f"accepted until {exactly(key.expires_at)}"
        self.note(f"{printable(str(successor))} replaces {printable(str(key))}, which is {end}.")
