"""Report which keys of another system have not become keys here yet."""

import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandParser

from keys.audit.reports import ago
from keys.keyrings import LegacyKeyring
from keys.management import leaving
from keys.management.command import KeysCommand, Line, write_table
from keys.management.leaving import CAME, DEACTIVATED, DELETED, REFUSED, WAITING, Departure

HEADINGS = ["NAME", "PREFIX", "REF", "STATE", "LAST USE"]


class Command(KeysCommand):
    help = (
        "Say which keys of other systems have become keys here, by an import or at their first use, which have not come"
        " yet, and which came and were deactivated or deleted since. Asks the LegacyKeyrings of the project's views for"
        " their records(), and adopts none. Exit status: 0 none is left, so that the old table can go, 1 some are, 2 no"
        " answer."
    )

    failure = 2

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "keyrings", nargs="*", metavar="KEYRING",
            help="The dotted path of a LegacyKeyring, such as mysite.keyrings.OldTokens. Default: those of all views.",
        )  # fmt: skip
        parser.add_argument(
            "--json", action="store_true",
            help="Write a JSON array of objects, one for each record: source, ref (which record it is, or the digest of"
            " that where it is a secret), name, prefix, state (waiting, came, deactivated, deleted, refused there),"
            " key_id (the key that it became, or null), last_used_at (ISO 8601 or null: the latest use on record under"
            " that name, before it came).",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        rings = leaving.keyrings(options["keyrings"])
        self._counts: Counter[str] = Counter()
        obstacles = {ring: leaving.obstacle(ring) for ring in rings}
        told = [ring for ring in rings if not obstacles[ring]]
        if options["json"]:
            found = (departure for ring in told for departure in self._counted(ring))
            self.write_json(vars(departure) for departure in found)
        else:
            for ring in told:
                self._tell(ring)
        for sentence in filter(None, obstacles.values()):
            self.note(sentence)
        if not rings:
            self.note("No view asks another system for its keys.")
        if self._counts[WAITING]:
            sys.exit(1)
        if len(told) < len(rings) or not rings:
            sys.exit(2)

    def _counted(self, ring: LegacyKeyring) -> Iterator[Departure]:
        for departure in leaving.departures(ring):
            self._counts[departure.state] += 1
            yield departure

    def _tell(self, ring: LegacyKeyring) -> None:
        before = self._counts.copy()
        write_table(self.stdout, HEADINGS, self._lines(ring), self.style.MIGRATE_HEADING)
        counts = self._counts - before
        parts = [f"{counts[WAITING]} not yet"]
        parts += [f"{counts[REFUSED]} never, as they are inactive or expired there"] if counts[REFUSED] else []
        parts += [f"{counts[state]} {state} here since" for state in (DEACTIVATED, DELETED) if counts[state]]
        self.stdout.write(
            f"{ring.origin}: {leaving.came(ring)} came, {', '.join(parts)} (of {counts.total()} records)."
        )

    def _lines(self, ring: LegacyKeyring) -> Iterator[Line]:
        for one in self._counted(ring):
            if one.state != CAME:
                use = ago(one.last_used_at) if one.last_used_at else ""
                style = self.style.WARNING if one.state == WAITING else str
                yield Line([one.name, one.prefix, one.ref, one.state, use], style)
