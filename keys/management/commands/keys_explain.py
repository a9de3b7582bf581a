"""Explain why a key is refused, or what it may do."""

import sys
from getpass import getpass
from typing import Any

from django.core.management.base import CommandError, CommandParser

from keys.management.command import KeysCommand
from keys.management.explanation import explain
from keys.networks import parse_address


class Command(KeysCommand):
    help = (
        "Read a key from standard input (on a terminal it is asked for and not shown) and say in one sentence why it is"
        " refused, or what it may do. Knows the keys in the database, in the environment variables that the project's"
        " views read, and of the other systems that they ask. Adopts none, and writes nothing to the audit log. Exit"
        " status: 0 accepted, 1 refused, 2 no answer."
    )

    failure = 2

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--address", help="The client's address. Default: the key's networks are not considered.")
        parser.add_argument(
            "--scope", action="append", dest="scopes", default=[], metavar="SCOPE",
            help="A scope that the view asks for; may be repeated.",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        address = parse_address(options["address"] or "")
        if options["address"] is not None and address is None:
            raise CommandError(f"“{options['address']}” is not an IPv4 or IPv6 address.", returncode=2)
        token = (getpass("Key: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
        if not token:
            raise CommandError("Give the key on standard input.", returncode=2)
        explanation = explain(token, address=address, scopes=options["scopes"])
        self.stdout.write(explanation.sentence)
        if not explanation.accepted:
            sys.exit(1)
