"""Verifies the audit log against its seals, and names the differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.utils import timezone

from ..conf import conf
from ..models import AuditSeal
from ..redaction import printable
from . import retention, seal_formats, sealing
from .retention import Pruning
from .seal_formats import MICROSECOND, Format, Reader
from .sealing import Entry, SealError, SealingKey

MOST_NAMED = 100  # problems; the others are only counted
KINDS = ("altered", "missing", "added")


@dataclass(frozen=True)
class Problem:
    """A difference from what was sealed. `kind` is one of KINDS; `row` is None if it concerns the seal itself."""

    kind: str
    seal: int
    row: int | None
    text: str


@dataclass
class Retention:
    """Before which times events may be missing, in microseconds since 1970: uses and refusals, and the others."""

    traffic: int = 0
    life_cycle: int = 0

    def may_have_taken(self, entry: Entry) -> bool:
        return entry.at < (self.traffic if entry.is_traffic else self.life_cycle)


@dataclass
class Tally:
    """The number of rows of a kind to look at, and the id of the first."""

    count: int = 0
    first: int | None = None

    def add(self, row: int) -> None:
        self.count += 1
        self.first = row if self.first is None else self.first


@dataclass
class Findings:
    """The result of verifying the whole log: how much was verified, and the problems in order."""

    seals: int = 0
    rows: int = 0
    pruned: int = 0
    # Rows that had no outcome when they were sealed, and have one now.
    concluded_later: Tally = field(default_factory=Tally)
    # Rows whose time is earlier than that of rows which came more than `SEAL_AFTER` before them.
    back_dated: Tally = field(default_factory=Tally)
    # Rows with a value in a column that the format of their seal does not have: it came later, or from a later release.
    filled_later: Tally = field(default_factory=Tally)
    unsealed: int = 0
    last_sealed: datetime | None = None
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    problems: list[Problem] = field(default_factory=list)
    # Seals that are gone, as the first one of a new chain says.
    lost: list[Problem] = field(default_factory=list)

    def add(self, problem: Problem) -> None:
        self.counts[problem.kind] += 1
        if len(self.problems) < MOST_NAMED:
            self.problems.append(problem)


def verify(kept: Sequence[Mapping[str, Any]] | None = None, keep: timedelta = timedelta(0)) -> Findings:
    """Verify the log against its seals, and the seals against the copies in `kept`.

    Rows younger than `keep` may not be missing, whatever the log says of its retention. Raises SealError without a
    key, or if there is no seal.
    """
    # A number may occur twice: seals that were made again may have been appended to the same file.
    elsewhere: dict[int, list[Mapping[str, Any]]] = {}
    for line in kept or ():
        elsewhere.setdefault(line["number"], []).append(line)
    while True:
        prunings = retention.prunings()
        findings = _verify(elsewhere, _permitted(prunings, keep))
        # Retention may have deleted rows meanwhile. It records that first, so look again.
        if not findings.counts["missing"] or retention.prunings() == prunings:
            return findings


def _verify(elsewhere: Mapping[int, Sequence[Mapping[str, Any]]], permitted: Retention) -> Findings:
    keys = {key.id: key for key in sealing.sealing_keys()}
    findings, chain, newest = Findings(), Chain(keys), 0
    for number in sealing.seals().values_list("number", flat=True).iterator():
        seal, problems = chain.take(number)
        if seal is not None and any(line != seal.described() for line in elsewhere.get(number, ())):
            problems.append(Problem("altered", number, None, f"Seal {number} is not the one that was kept elsewhere."))
        for problem in problems:
            findings.add(problem)
        if chain.begun:
            findings.lost += _lost(chain.begun, number, elsewhere)
        if seal is not None:
            findings.seals += 1
            findings.last_sealed = seal.made_at
            newest = _verify_rows(seal, chain.start, keys[seal.key_id], permitted, findings, newest)
    for number in sorted(number for number in elsewhere if number > chain.number):
        text = f"{_described(elsewhere[number][-1])} was kept elsewhere and is missing."
        findings.add(Problem("missing", number, None, text))
    if not chain.number and not findings.problems:
        raise SealError("There is no seal to verify the audit log by; keys_seal makes them.")
    findings.unsealed = (
        sealing.log().filter(pk__gt=chain.last_id).count() if chain.last_id is not None else sealing.log().count()
    )
    return findings


def _lost(begun: range, number: int, elsewhere: Mapping[int, Sequence[Mapping[str, Any]]]) -> list[Problem]:
    """Return what is known of the seals that were lost before this one began a new chain."""
    those = f"Seal {begun[0]} was" if len(begun) == 1 else f"Seals {begun[0]} to {begun[-1]} were"
    known = sorted(lost for lost in elsewhere if lost in begun)[:MOST_NAMED]
    return [
        Problem("lost", begun[0], None, f"{those} lost before seal {number} began a new chain."),
        *(Problem("lost", lost, None, f"{_described(elsewhere[lost][-1])} was lost.") for lost in known),
    ]


def _described(line: Mapping[str, Any]) -> str:
    """Return which seal was kept elsewhere, and of which rows, in words."""
    said = (str(line.get(name, "?")) for name in ("number", "count", "first_id", "last_id", "since", "until"))
    return printable("Seal {} ({} events, rows {} to {}, of {} to {})".format(*said))


class Chain:
    """The seals in order. A seal is valid only if its key signed it and it follows from the one before.

    One that skips numbers and names the last seal before them as the one it follows begins a new chain: whoever made it
    said that those between were lost.
    """

    def __init__(self, keys: Mapping[str, SealingKey]) -> None:
        self.keys = keys
        self.number = 0
        self.last_id: int | None = None
        # The first row of the current seal; None: the first row of the log.
        self.start: int | None = None
        # The numbers of the seals that were lost, if the current one begins a new chain.
        self.begun: range | None = None
        self._previous: AuditSeal | None = None
        self._unknown: int | None = None  # the format of the one before, if it is not known

    def take(self, number: int) -> tuple[AuditSeal | None, list[Problem]]:
        """Return the next seal, or None if it is not valid, and what is wrong with it or before it."""
        problems, skipped, is_first = [], range(self.number + 1, number), self.number == 0
        self.number, self.begun = number, None
        before, (seal, fault, self._unknown) = self._unknown, self._read(number)
        follows = seal is not None and seal.previous == (self._previous.digest if self._previous else "")
        if skipped and follows and (is_first or self._previous):
            self.begun = skipped
        elif skipped:
            text = f"Seal {skipped[0]}" + ("" if len(skipped) == 1 else f" and up to {skipped[-1]}")
            problems.append(Problem("missing", skipped[0], None, f"{text} is missing."))
            self._previous = None
        if seal is None:
            # Of many of one format the first is enough.
            if self._unknown is None or self._unknown != before:
                problems.append(Problem("altered", number, None, f"Seal {number} {fault}"))
        elif self._previous is not None and not follows:
            problems.append(Problem("altered", number, None, f"Seal {number} does not follow from the one before it."))
        if seal is not None:
            begins = is_first and (number == 1 or self.begun is not None)
            self.start = self._previous.last_id + 1 if self._previous else None if begins else seal.first_id
            self.last_id = seal.last_id
        self._previous = seal
        return seal, problems

    def _read(self, number: int) -> tuple[AuditSeal | None, str, int | None]:
        """Return the seal if it is valid, else None, what is wrong with it, and its format if that is unknown."""
        seal = sealing.read_seal(number)
        if seal is None:
            return None, "was altered.", None
        if seal.format not in seal_formats.FORMATS:
            return None, seal_formats.unknown(seal.format), seal.format
        if (digest := seal.computed_digest()) != seal.digest:
            return None, "was altered.", None
        if seal.key_id not in self.keys:
            return None, f"is signed with another key ({seal.key_id}) than those that are set.", None
        if seal.signature != self.keys[seal.key_id].sign(digest):
            return None, "has a wrong signature: it is forged.", None
        return seal, "", None


def _permitted(prunings: Sequence[Pruning], keep: timedelta) -> Retention:
    permitted, latest = Retention(), sealing.as_sealed(timezone.now() - keep)
    for pruning in prunings:
        until = sealing.microseconds(min(pruning.as_stored(), latest))
        permitted.traffic = max(permitted.traffic, until)
        if pruning.life_cycle:
            permitted.life_cycle = max(permitted.life_cycle, until)
    return permitted


def _verify_rows(
    seal: AuditSeal, start: int | None, key: SealingKey, permitted: Retention, findings: Findings, newest: int
) -> int:
    """Verify the rows against their seal, and return the time of the newest sealed row so far, in microseconds."""
    form, entries = seal_formats.FORMATS[seal.format], sealing.unpack(bytes(seal.entries), seal.count)
    later = {column: kind for column, kind in seal_formats.newest().columns.items() if column not in form.columns}
    rows = sealing.log().filter(pk__lte=seal.last_id)
    found = Reader({**form.columns, **later}, rows.db).rows(rows if start is None else rows.filter(pk__gte=start))
    by_id = itemgetter(0)
    for _, group in groupby(merge(entries, found, key=by_id), key=by_id):
        both = list(group)
        sealed = [one for one in both if isinstance(one, Entry)]
        for row in (one for one in both if not isinstance(one, Entry)):
            if any(
                not seal_formats.is_blank(name, value)
                for name, value in zip(later, row[len(form.columns) :], strict=True)
            ):
                findings.filled_later.add(row[0])
            _verify_row(row[: len(form.columns)], sealed, seal, key, form, findings)
        for entry in sealed:
            if permitted.may_have_taken(entry):
                findings.pruned += 1
            else:
                findings.add(Problem("missing", seal.number, entry.id, f"{_named(entry, seal)} is missing."))
    late, made_at = newest - conf.SEAL_AFTER // MICROSECOND, sealing.microseconds(sealing.as_sealed(seal.made_at))
    for entry in entries:
        if entry.at < late:
            findings.back_dated.add(entry.id)
        # A row from the future comes from a wrong clock.
        elif entry.at <= made_at:
            newest = max(newest, entry.at)
    return newest


def _verify_row(
    row: Sequence[Any], sealed: list[Entry], seal: AuditSeal, key: SealingKey, form: Format, findings: Findings
) -> None:
    """Find the row among the sealed entries of its id, and remove its entry from them."""
    findings.rows += 1
    digests = [entry.digest for entry in sealed]
    if (digest := key.digest(row, form)) in digests:
        del sealed[digests.index(digest)]
    elif (digest := key.digest(sealing.without_outcome(row, form), form)) in digests:
        del sealed[digests.index(digest)]
        findings.concluded_later.add(row[0])
    elif sealed:
        entry = sealed.pop()
        findings.add(Problem("altered", seal.number, entry.id, f"{_named(entry, seal)} was altered."))
    else:
        text = f"Row {row[0]} was added among those of seal {seal.number}."
        findings.add(Problem("added", seal.number, row[0], text))


def _named(entry: Entry, seal: AuditSeal) -> str:
    at = f"{sealing.moment(entry.at):%Y-%m-%d %H:%M:%S}{'' if sealing.log_keeps_local_time() else ' UTC'}"
    return f"Row {entry.id} of {at}, in seal {seal.number},"
