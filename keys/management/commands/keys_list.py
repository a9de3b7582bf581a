"""List the keys."""

import sys
from array import array
from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandParser
from django.db.models import QuerySet

from keys import lifecycle, signals
from keys.audit.reach import Reach, day, reach
from keys.audit.reports import age_mark, ago, expiring, untold, unused
from keys.management import arguments, ownership
from keys.management.command import PAGE, KeysCommand, Line, write_table
from keys.management.ownership import Standing, Standings
from keys.models import APIKey, KeyOrigin
from keys.models.key_origin import has_origins, origins_of

HEADINGS = ["ID", "NAME", "PREFIX", "STATE", "SCOPES", "CREATED", "LAST USE", "EXPIRES", "NOTES"]
RECORDED = (
    "id", "name", "prefix", "state", "is_active", "scopes", "allowed_ips", "rate", "created_at", "expires_at", "note",
)  # fmt: skip
AGE_NOTES = {"old": "older than 90 days", "overdue": "overdue: older than 180 days"}
NOBODY = Standing("")


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
        ownership.add_option(parser, "Keys of this owner, such as auth.user:7, also of one who is gone.")
        of_owners = (
            " owner (such as auth.user:7, or empty), owner_name, owner_objection (why keys of that owner are refused:"
            " gone, inactive, not allowed, unlisted, unknown, or empty),"
        )
        parser.add_argument(
            "--json", action="store_true",
            help="Write a JSON array of objects: id, name, prefix, state, is_active, scopes, allowed_ips, rate,"
            f" created_at, expires_at, note,{of_owners if ownership.are_shown() else ''} last_used_at (ISO 8601 or"
            " null), known_since (from when on the log knows each use; a last_used_at of null speaks of no time"
            " before), age (old, overdue or empty), typed_by_hand, replaced_by (an id or null),"
            " origins (of which other system's record the key was made: source, ref).",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        self._reach: Reach | None = None
        self._have_origins: bool | None = None
        self._standings = Standings()
        self._owner = None if options["owner"] is None else ownership.known(options["owner"])
        is_reminder = bool(options["expiring"] or options["unused"])
        if is_reminder:
            keys = self._due(options["expiring"], options["unused"])
            pages, count = iter([keys]), len(keys)
        else:
            ids = array("q", self._of_owner(APIKey.objects.all()).values_list("pk", flat=True))
            pages, count = _read(ids), len(ids)
        if options["json"]:
            self.write_json(record for page in pages for record in self._records(page))
        elif count:
            lines = (line for page in pages for line in self._lines(page))
            headings = [*HEADINGS[:4], "OWNER", *HEADINGS[4:]] if ownership.are_shown() else HEADINGS
            write_table(self.stdout, headings, lines, self.style.MIGRATE_HEADING)
        elif not is_reminder:
            self.note(self._none())
        if is_reminder and count:
            sys.exit(1)

    def _none(self) -> str:
        if self._owner is None:
            return "There are no keys; keys_create makes one."
        return f"There are no keys of {ownership.standing(self._owner)}."

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
        for signal, found in reminders:
            keys = self._of_owner(found)
            due |= {key.pk: key for key in keys}
            for error in lifecycle.remind(signal, keys):
                self.stderr.write(f"A receiver of a reminder failed: {type(error).__name__}: {error}")
        return sorted(due.values(), key=lambda key: (key.name, key.pk))

    def _of_owner(self, keys: Any) -> QuerySet[APIKey]:
        return keys if self._owner is None else keys.of_owner(self._owner)  # type: ignore[no-any-return]

    def _origins(self, page: list[APIKey]) -> dict[Any, list[KeyOrigin]]:
        if self._have_origins is None:
            self._have_origins = has_origins()
        return origins_of([key.pk for key in page]) if self._have_origins else {}

    @property
    def _known(self) -> Reach:
        """How far back the log reaches: asked once, while the command runs."""
        if self._reach is None:
            self._reach = reach()
        return self._reach

    def _records(self, page: list[APIKey]) -> Iterator[dict[str, Any]]:
        owners, origins = self._standings.of(key.owner_ref for key in page), self._origins(page)
        for key in page:
            record = {name: getattr(key, name) for name in RECORDED}
            if ownership.are_shown():
                owner = owners.get(key.owner_ref, NOBODY)
                record |= {"owner": key.owner_ref, "owner_name": owner.name, "owner_objection": owner.objection}
            yield record | {
                "last_used_at": self._known.last_use(key.last_used),  # type: ignore[attr-defined]
                "known_since": key.created_at if self._known.knows(key.created_at) else self._known.since,
                "age": age_mark(key),
                "typed_by_hand": key.typed_by_hand,
                "replaced_by": key.replaced_by_id,
                "origins": [{"source": one.source, "ref": one.ref} for one in origins.get(key.pk, ())],
            }

    def _lines(self, page: list[APIKey]) -> Iterator[Line]:
        owners, origins = self._standings.of(key.owner_ref for key in page), self._origins(page)
        for key in page:
            owner = owners.get(key.owner_ref, NOBODY)
            notes = [owner.mark] if owner.mark else []
            notes += [AGE_NOTES[mark]] if (mark := age_mark(key)) else []
            notes += ["typed by hand"] if key.typed_by_hand else []
            marks = len(notes)
            notes += [f"from {source}" for source in dict.fromkeys(one.source for one in origins.get(key.pk, ()))]
            last_used = key.last_used and self._known.last_use(key.last_used)  # type: ignore[attr-defined]
            is_known = self._known.knows(key.created_at)
            use = ago(last_used) if last_used else "none" if is_known else self._known.not_since
            cells = [
                key.pk, key.name, key.prefix or "—", key.state, *([str(owner)] if ownership.are_shown() else []),
                ", ".join(key.scopes), ago(key.created_at), use, ago(key.expires_at) if key.expires_at else "never",
                "; ".join(notes),
            ]  # fmt: skip
            yield Line(cells, self.style.WARNING if marks else str)


def _read(ids: "array[int]") -> Iterator[list[APIKey]]:
    """Yield the keys by the page: on no database but some does a cursor hold less than all of them."""
    for start in range(0, len(ids), PAGE):
        wanted = ids[start : start + PAGE].tolist()
        found = {key.pk: key for key in APIKey.objects.with_last_used().filter(pk__in=wanted).order_by()}
        yield [found[pk] for pk in wanted if pk in found]
