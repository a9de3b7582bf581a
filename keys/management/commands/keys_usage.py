"""Report who used which key, from where, and when last."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.models import Q
from django.utils import timezone

from keys.audit.reach import ahead, day, reach
from keys.audit.reports import Usage, ago, usage
from keys.endpoints import endpoints, environment_keyrings
from keys.management import arguments, ownership
from keys.management.command import KeysCommand, Line, write_table
from keys.management.ownership import Standing
from keys.models import APIKey, owners

HEADINGS = ["KEY", "PREFIX", "PATH", "ADDRESS", "USER AGENT", "USES", "DIED", "REFUSED", "LAST"]


class Command(KeysCommand):
    help = (
        "Report from the audit log who used which key on which path, from where, how often and when last, refused"
        " requests included. DIED are uses without an outcome: the worker died in the view, or is still in it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--key", help="Only this: env:VARIABLE, or the name, prefix or id of a key; never the key itself."
        )
        ownership.add_option(
            parser, "Only keys of this owner, such as auth.user:7, as the log has it: also of one who is gone."
        )
        parser.add_argument(
            "--endpoint",
            help="Only this API: the name of its URL, or gateway:HOST of a service behind a proxy, or"
            " introspection:NAME of a service that asks.",
        )
        parser.add_argument("--days", type=int, default=30, help="How many days to look back (default: 30).")
        of_owners = "owner, owner_name, " if ownership.are_shown() else ""
        parser.add_argument(
            "--json", action="store_true",
            help=f"Write a JSON array of objects: key_name, key_prefix, {of_owners}endpoint, path, address, user_agent,"
            " count (uses and refusals), uses, died, refusals, last_at and last_used_at (ISO 8601; null without a"
            " use).",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["days"] <= 36_500:
            raise CommandError("--days is a number from 1 to 36500.")
        key = None if options["key"] is None else self._named(options["key"])
        owner = "" if options["owner"] is None else ownership.known(options["owner"])
        since = timezone.now() - timedelta(days=options["days"])
        endpoint = options["endpoint"] or ""
        arguments.refuse_secret(endpoint)
        lines = usage(since=since, key=key, owner=owner, endpoint=endpoint)
        if isinstance(key, str) and not (lines or ((owner or endpoint) and usage(since=since, key=key))):
            self._refuse_unknown(key)
        if endpoint and not (lines or endpoint in {one.name for one in endpoints()}):
            self._refuse_unknown_endpoint(endpoint, since, is_narrowed=bool(key or owner))
        self._names = owners.names(line.owner for line in lines) if ownership.are_shown() else {}
        if options["json"]:
            self.write_json([self._record(line) for line in lines])
        elif lines:
            headings = [*HEADINGS[:2], "OWNER", *HEADINGS[2:]] if ownership.are_shown() else HEADINGS
            write_table(self.stdout, headings, [self._line(line) for line in lines], self.style.MIGRATE_HEADING)
        self._say_what_is_known(since, _meant(key, owner), options["days"], bool(lines))

    def _say_what_is_known(self, since: datetime, keys: list[APIKey] | None, days: int, is_used: bool) -> None:
        known = reach()
        # Of the time before the oldest of the keys there is nothing to be known.
        made = None if keys is None else min((one.created_at for one in keys), default=None)
        if known.knows(since) or (made is not None and known.knows(made)):
            if not is_used:
                self.note(f"Not used in the last {days} days.")
        elif known.since is None:
            self.note("Nothing is on record yet.")
        elif not is_used:
            self.note(f"Not used since {day(known.since)}, where the log begins.")
        elif known.is_pruned or made is not None:
            self.note(f"The log begins on {day(known.since)}: what was before is not counted.")
        if count := ahead():
            self.note(f"{count} events have a time that is yet to come: a clock was wrong.")

    def _named(self, text: str) -> APIKey | str:
        arguments.refuse_secret(text)
        found = APIKey.objects.filter(pk=int(text)).first() if arguments.is_id(text) else None
        return found or text

    def _refuse_unknown(self, text: str) -> None:
        """Raise CommandError for a mistyped name: an empty report would read as "not used any more"."""
        if text.startswith("env:"):
            variables = sorted({ring.variable for _, ring in environment_keyrings()})
            if text.removeprefix("env:") not in variables:
                raise CommandError(f"No view reads that variable, only {', '.join(variables) or 'none at all'}.")
            return
        named = APIKey.objects.filter(Q(name=text) | Q(prefix=text, prefix__gt=""))
        # MariaDB finds equal what differs in case or accents alone.
        if not any(text in {key.name, key.prefix} for key in named):
            arguments.refuse_key(text)
            raise CommandError("No key has that name, prefix or id, and the log of these days knows none.")

    @staticmethod
    def _refuse_unknown_endpoint(name: str, since: datetime, *, is_narrowed: bool) -> None:
        if not (is_narrowed and usage(since=since, endpoint=name)):
            raise CommandError("No view has that name, and the log of these days knows none.")

    def _record(self, line: Usage) -> dict[str, Any]:
        record = {**asdict(line), "count": line.uses + line.refusals}
        if ownership.are_shown():
            return record | {"owner_name": self._names.get(line.owner, "")}
        del record["owner"]
        return record

    def _line(self, line: Usage) -> Line:
        owner = [str(Standing(line.owner, self._names.get(line.owner, "")))] if ownership.are_shown() else []
        cells: list[str | int] = [
            line.key_name or "(unknown key)", line.key_prefix, *owner, line.place, line.came_from or "?",
            line.user_agent, line.uses, line.died, line.refusals, ago(line.last_at),
        ]  # fmt: skip
        return Line(cells, self.style.WARNING if line.refusals or line.died else str)


def _meant(key: APIKey | str | None, owner: str) -> list[APIKey] | None:
    """Return the oldest of the keys that are reported; None if they are variables too, which have no age."""
    if isinstance(key, APIKey):
        return [key]
    if key is not None and key.startswith("env:"):
        return None
    keys = APIKey.objects.all() if key is None else APIKey.objects.filter(Q(name=key) | Q(prefix=key))
    keys = keys.of_owner(owner) if owner else keys
    return list(keys.order_by("created_at")[:1])
