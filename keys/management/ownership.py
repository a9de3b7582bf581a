"""Owners on the command line: how they are named there, and what is said of them."""

from argparse import SUPPRESS
from collections.abc import Iterable
from dataclasses import dataclass

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management.base import CommandError, CommandParser
from django.db import Error
from django.db.models import Model

from ..models import APIKey, AuditEvent, owners
from ..models.owners import GONE, INACTIVE, NOT_ALLOWED
from ..redaction import printable
from . import arguments

LONGEST = 40  # characters of a name in a table or a sentence
MOST_REMEMBERED = 5000
# Why the keys of an owner are refused, beside what `owners.objection_to_owner` says.
UNLISTED, UNKNOWN = "unlisted", "unknown"
# To follow the owner in a sentence.
REFUSALS = {
    GONE: "who is gone",
    INACTIVE: "who is inactive",
    NOT_ALLOWED: "who may have no keys (OWNER_IS_ALLOWED)",
    UNLISTED: 'of a model that KEYS["OWNERS"] does not name',
    UNKNOWN: "of whom nobody can tell now whether keys are allowed: what tells it fails, and the answer is 503",
}
MARKS = {
    GONE: "owner gone",
    INACTIVE: "owner inactive",
    NOT_ALLOWED: "owner not allowed",
    UNLISTED: "owner's model not in OWNERS",
    UNKNOWN: "owner cannot be asked for",
}


def are_shown() -> bool:
    """Tell whether owners are mentioned at all: keys may have them."""
    try:
        return owners.are_on()
    except ImproperlyConfigured:
        return False  # as the command says when it runs


def add_option(parser: CommandParser, text: str) -> None:
    """Add the option `--owner`, of which the help speaks only where keys may have owners."""
    parser.add_argument("--owner", metavar="OWNER", help=text if are_shown() else SUPPRESS)


@dataclass(frozen=True)
class Standing:
    """Who an owner is, and why the keys are refused; `name` is empty for one who is gone."""

    ref: str
    name: str = ""
    objection: str = ""

    def __str__(self) -> str:
        name = self.name if len(self.name) <= LONGEST else f"{self.name[: LONGEST - 1]}…"
        return printable(self.ref) if name in ("", self.ref) else f"{self.ref} ({name})"

    @property
    def mark(self) -> str:
        """What a list says of the owner's keys; empty if they are accepted."""
        return MARKS.get(self.objection, "")

    @property
    def refusal(self) -> str:
        """The owner and why the keys are refused, in a sentence; the owner alone if they are accepted."""
        return f"{self}, {REFUSALS[self.objection]}" if self.objection else str(self)


class Standings:
    """What is to be said of owners, read with one query for each model and call, and remembered within bounds."""

    def __init__(self) -> None:
        self._known: dict[str, Standing] = {}

    def of(self, refs: Iterable[str]) -> dict[str, Standing]:
        """Return it by reference; nothing of a key without an owner, nor where keys have none."""
        wanted = {*refs} - {""} if are_shown() else set()
        known = {ref: self._known[ref] for ref in wanted & self._known.keys()}
        new = wanted - known.keys()
        found = owners.read(new)
        read = {ref: _standing(ref, found.get(ref)) for ref in new}
        if len(self._known) + len(read) > MOST_REMEMBERED:
            self._known.clear()
        self._known |= read
        return known | read


def standing(ref: str) -> Standing:
    """Return what is to be said of one owner."""
    return _standing(ref, owners.find(ref))


def _standing(ref: str, owner: Model | None) -> Standing:
    if owner is None:
        is_listed = ref.partition(":")[0] in owners.models()
        return Standing(ref, objection=GONE if is_listed else UNLISTED)
    try:
        objection = owners.objection_to_owner(owner)
    except Error:  # OwnerUnknownError among them
        objection = UNKNOWN
    return Standing(ref, owners.name_of(ref, owner), objection)


def find(text: str) -> Model:
    """Return the owner with that reference. Raises CommandError if there is none."""
    ref = _reference(text)
    owners.parse(ref)
    if (owner := owners.find(ref)) is None:
        raise CommandError(f"There is no owner {printable(ref)}.")
    return owner


def known(text: str) -> str:
    """Return the reference of an owner who exists, or of whose keys the table or the log still knows.

    Raises CommandError for any other: an empty answer would read as “has no keys”.
    """
    ref = _reference(text)
    of_keys, of_events = APIKey.objects.of_owner(ref), AuditEvent.objects.written().of_owner(ref)
    if owners.find(ref) is None and not of_keys.exists() and not of_events.exists():
        owners.parse(ref)
        raise CommandError(f"There is no owner {printable(ref)}, and no key of one is on record.")
    return ref


def _reference(text: str) -> str:
    """Return the reference as keys have it: people write the model as in settings, such as `auth.User`."""
    if not owners.are_on():
        raise CommandError('Keys have no owners here: KEYS["OWNERS"] is empty.')
    model, colon, pk = text.partition(":")
    ref = f"{model.lower()}{colon}{pk}"
    try:
        owners.parse(ref)
    except ValidationError:
        arguments.refuse_secret(text)  # whoever is no owner is shown
    return ref
