"""Create a key."""

from typing import Any

from django.core.management.base import CommandParser

from keys import lifecycle
from keys.management import arguments, ownership
from keys.management.command import KeysCommand
from keys.moments import exactly
from keys.redaction import printable


class Command(KeysCommand):
    help = (
        "Make an API key and write it to standard output, the only time it can be read; the rest goes to standard"
        " error."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="The service that will hold the key.")
        scopes = parser.add_mutually_exclusive_group()
        scopes.add_argument(
            "--scope", action="append", dest="scopes", metavar="SCOPE",
            help='What the key may do, such as users:read; may be repeated. Default: KEYS["DEFAULT_SCOPES"].',
        )  # fmt: skip
        scopes.add_argument(
            "--no-scopes", action="store_true", help="A key without scopes, for endpoints that ask for none."
        )
        parser.add_argument(
            "--expires", metavar="WHEN",
            help="When the key is refused: in some time (12h, 90d, 4w), at the beginning of a day (2030-01-31) or at a"
            " moment (2030-01-31T12:00). Default: never.",
        )  # fmt: skip
        parser.add_argument(
            "--allowed-ip", action="append", dest="allowed_ips", default=[], metavar="NETWORK",
            help="Network the key may be used from, such as 10.0.0.0/8; may be repeated. Default: anywhere.",
        )  # fmt: skip
        parser.add_argument("--rate", default="", help="How often it may be used, such as 100/min. Default: no limit.")
        parser.add_argument("--note", default="", help="For people: whom to ask, which ticket. Never a key.")
        ownership.add_option(parser, 'Whose key it is: a model of KEYS["OWNERS"] and a primary key, as in auth.user:7.')

    def handle(self, *args: Any, **options: Any) -> None:
        expires_at = arguments.moment(options["expires"]) if options["expires"] else None
        note = arguments.words(options["note"], "--note")
        owner = None if options["owner"] is None else ownership.find(options["owner"])
        with self.committed_once_written():
            key = lifecycle.create(
                options["name"],
                scopes=[] if options["no_scopes"] else options["scopes"],
                expires_at=expires_at,
                allowed_ips=options["allowed_ips"],
                rate=options["rate"],
                owner=owner,
                note=note,
            )
            self.write_secret(key)
        limits = [f"scopes {', '.join(key.scopes)}" if key.scopes else "no scopes"]
        limits += [f"only from {', '.join(key.allowed_ips)}"] if key.allowed_ips else []
        limits += [f"at most {key.rate}"] if key.rate else []
        limits += [f"until {exactly(key.expires_at)}"] if key.expires_at else []
        limits += [f"of {ownership.standing(key.owner_ref)}"] if owner is not None else []
        self.note(f"Made {printable(str(key))}: {'; '.join(limits)}. It is shown this once; only its digest is stored.")
