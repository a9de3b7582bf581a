"""List the keys."""

import sys
from typing import Any

from django.core.management.base import CommandParser

from keys import lifecycle, signals
from keys.audit.reach import Reach, day, reach
from keys.audit.reports import age_mark, ago, expiring, untold, unused
from keys.management import arguments
from keys.management.command import KeysCommand, Line, write_table
from keys.models import APIKey

HEADINGS = ["ID", "NAME", "PREFIX", "STATE", "SCOPES", "CREATED", "LAST USE", "EXPIRES", "NOTES"]
RECORDED = (
    "id", "name", "prefix", "state", "is_active", "scopes", "allowed_ips", "rate", "created_at", "expires_at",
)  # fmt: skip
AGE_NOTES = {"old": "older than 90 days", "overdue": "overdue: older than 180 days"}


class Command(KeysCommand):
    help = (
        "List the keys with their state, scopes and last use. Keys older than 90 days are marked, and as overdue when"
        " older than 180; so are keys that were typed by hand. With --expiring or --unused, lists only such keys, sends"
        " the signal key_expiring or key_unused for each, and exits with status 1 if there are any, silently with 0 if"
        " there are none, for a cron job."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--expiring", metavar="TIME", help="Keys that expire within this time, such as 14d.")
        parser.add_argument("--unused", metavar="TIME", help="Keys that were not used for this time, such as 90d.")
        parser.add_argument(
            "--json", action="store_true",
            help="Write a JSON array of objects: id, name, prefix, state, is_active, scopes, allowed_ips, rate,"
            " created_at, expires_at, last_used_at (ISO 8601 or null), known_since (from when on the log knows"
            " each use; a last_used_at of null speaks of no time before), age (old, overdue or empty), typed_by_hand,"
            " replaced_by (an id or null).",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        self._reach: Reach | None = None
        is_reminder = bool(options["expiring"] or options["unused"])
        keys = self._due(options["expiring"], options["unused"]) if is_reminder else APIKey.objects.with_last_used()
        if options["json"]:
            self.write_json([self._record(key) for key in keys])
        elif keys:
            write_table(self.stdout, HEADINGS, [self._line(key) for key in keys], self.style.MIGRATE_HEADING)
        elif not is_reminder:
            self.note("There are no keys; keys_create makes one.")
        if is_reminder and keys:
            sys.exit(1)

    def _due(self, expiring_within: str | None, unused_for: str | None) -> list[APIKey]:
        """Return the keys that need attention, after sending the signals for them."""
        reminders = []
        if expiring_within:
            reminders.append((signals.key_expiring, expiring(arguments.duration(expiring_within))))
        if unused_for:
            period = arguments.duration(unused_for)
            reminders.append((signals.key_unused, unused(period)))
            if count := untold(period):
                begins = "is empty" if self._known.since is None else f"begins on {day(self._known.since)}"
                self.note(f"The log {begins}: it cannot tell whether {count} keys were unused for {unused_for}.")
        due: dict[int, APIKey] = {}
        for signal, keys in reminders:
            due |= {key.pk: key for key in keys}
            for error in lifecycle.remind(signal, keys):
                self.stderr.write(f"A receiver of a reminder failed: {type(error).__name__}: {error}")
        return sorted(due.values(), key=lambda key: (key.name, key.pk))

    @property
    def _known(self) -> Reach:
        """How far back the log reaches: asked once, while the command runs."""
        if self._reach is None:
            self._reach = reach()
        return self._reach

    def _record(self, key: APIKey) -> dict[str, Any]:
        return {
            **{name: getattr(key, name) for name in RECORDED},
            "last_used_at": self._known.last_use(key.last_used),  # type: ignore[attr-defined]
            "known_since": key.created_at if self._known.knows(key.created_at) else self._known.since,
            "age": age_mark(key),
            "typed_by_hand": key.typed_by_hand,
            "replaced_by": key.replaced_by_id,
        }

    def _line(self, key: APIKey) -> Line:
        notes = [AGE_NOTES[mark]] if (mark := age_mark(key)) else []
        notes += ["typed by hand"] if key.typed_by_hand else []
        last_used = key.last_used and self._known.last_use(key.last_used)  # type: ignore[attr-defined]
        is_known = self._known.knows(key.created_at)
        use = ago(last_used) if last_used else "none" if is_known else self._known.not_since
        cells = [
            key.pk, key.name, key.prefix, key.state, ", ".join(key.scopes), ago(key.created_at),
            use, ago(key.expires_at) if key.expires_at else "never",
            "; ".join(notes),
        ]  # fmt: skip
        return Line(cells, self.style.WARNING if notes else str)
