"""Deactivate a key, or all keys of an owner."""

import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import router

from keys.audit.reach import reach
from keys.audit.reports import retirement
from keys.management import arguments, ownership
from keys.management.command import KeysCommand, transaction_of_a_writer
from keys.models import APIKey
from keys.models.querysets import APIKeyQuerySet
from keys.redaction import printable

MOST_TOLD = 20  # keys of an owner, each with its last use


class Command(KeysCommand):
    help = (
        "Refuse a key from the next request on. Says first when and from where it was last used, and on a terminal"
        " asks whether to go on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("key", nargs="?", help="The id, prefix or name of the key; never the key itself.")
        ownership.add_option(
            parser,
            "All active keys of this owner, such as auth.user:7, also of one who is gone, in place of a key. Where"
            " there is no terminal to ask on, it wants --yes.",
        )
        parser.add_argument("--reason", default="", help="Why, in words for the log. Never a key.")
        parser.add_argument(
            "--yes", "--no-input", "--noinput", action="store_false", dest="interactive",
            help="Do not ask, even on a terminal.",
        )  # fmt: skip
        parser.add_argument("--dry-run", action="store_true", help="Say what would be done, and do nothing.")
        parser.add_argument(
            "--if-safe", action="store_true",
            help="Fail, and leave the key active, unless it has a successor and is not in use any more.",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        reason = arguments.reason(options["reason"])
        if (options["key"] is None) == (options["owner"] is None):
            raise CommandError(f"Name a key{', or an --owner' if ownership.are_shown() else ''}.")
        if options["owner"] is None:
            self._end_key(arguments.find_key(options["key"]), reason, options)
        elif options["if_safe"]:
            raise CommandError("--if-safe is of one key, and --owner ends all of somebody.")
        else:
            self._end_keys_of(ownership.known(options["owner"]), reason, options)

    def _end_key(self, key: APIKey, reason: str, options: dict[str, Any]) -> None:
        label = printable(str(key))
        if not key.is_active:
            self.note(f"{label} is inactive already.")
            return
        report = retirement(key)
        if options["if_safe"] and not report.is_safe:
            raise CommandError(f"{label} stays active. {report.sentence}")
        self.note(f"{label}: {report.sentence}")
        if options["dry_run"]:
            self.note(f"{label} would be refused from now on.")
            return
        if options["interactive"] and sys.stdin.isatty() and not self._confirmed("Deactivate it?"):
            raise CommandError(f"{label} stays active.")
        key.deactivate(reason)
        self.note(f"{label} is refused from now on.")

    def _end_keys_of(self, ref: str, reason: str, options: dict[str, Any]) -> None:
        owner, keys = ownership.standing(ref), _active_keys_of(ref)
        if not (count := keys.count()):
            self.note(f"No key of {owner} is active.")
            return
        self._tell(keys, count)
        which = f"{_keys(count)} of {owner}"
        if options["dry_run"]:
            self.note(f"{which} would be refused from now on.")
            return
        if options["interactive"] and not sys.stdin.isatty():
            raise CommandError(f"Nothing was changed: say --yes to deactivate {which} without a terminal.")
        if options["interactive"] and not self._confirmed(f"Deactivate {which}?"):
            raise CommandError("Nothing was changed.")
        # All or none, and those that were made meanwhile, too.
        with transaction_of_a_writer(router.db_for_write(APIKey)):
            ended = list(keys.all())
            for key in ended:
                key.deactivate(reason)
        self.note(f"{_keys(len(ended))} of {owner} {'is' if len(ended) == 1 else 'are'} refused from now on.")

    def _tell(self, keys: APIKeyQuerySet[APIKey], count: int) -> None:
        known = reach()
        for key in keys.select_related("replaced_by")[:MOST_TOLD]:
            self.note(f"{printable(str(key))}: {retirement(key, known).sentence}")
        if count > MOST_TOLD:
            self.note(f"and {count - MOST_TOLD} more, as keys_list --owner shows.")

    def _confirmed(self, question: str) -> bool:
        # On standard error, because input() would ask on standard output, which is for the result.
        self.stderr.write(f"{question} [y/N] ", style_func=str, ending="")
        self.stderr.flush()
        return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _active_keys_of(ref: str) -> APIKeyQuerySet[APIKey]:
    keys: APIKeyQuerySet[APIKey] = APIKey.objects.of_owner(ref).filter(is_active=True)
    return keys


def _keys(count: int) -> str:
    return "1 key" if count == 1 else f"{count} keys"
