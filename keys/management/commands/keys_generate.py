"""Create a secret for an environment variable."""

import secrets
from typing import Any

from django.core.management.base import CommandError, CommandParser

from keys.management.command import KeysCommand

FEWEST, MOST = 16, 64  # bytes: a secret in the environment has 32 to 128 characters


class Command(KeysCommand):
    help = (
        "Write a new secret for an environment variable, such as INTERNAL_API_KEY, to standard output: hexadecimal"
        " digits, without commas or blanks. Nothing is stored."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--bytes", type=int, default=32, help=f"Random bytes in the secret, {FEWEST} to {MOST} (default: 32)."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not FEWEST <= options["bytes"] <= MOST:
            raise CommandError(f"--bytes is a number from {FEWEST} to {MOST}.")
        self.stdout.write(secrets.token_hex(options["bytes"]))
