"""Makes keys of the records that another system holds, all or none, and compares those that came before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any

from django.db import IntegrityError, router, transaction
from django.utils import timezone

from .. import moments
from ..models import APIKey, KeyOrigin
from ..models.api_key import objection_of
from ..models.fields import Digest, Sought

PAGE = 500  # records that are held at once

GONE = "is not there any more"
INACTIVE = "is inactive there"
EXPIRED = "has expired there"
ANOTHER = "has another key there"
TWICE = "the same key as another record, which comes first"
TWICE_ENDED = f"{TWICE} and is not good there"


class StrangeTableError(Exception):
    """No key of the other table is here, and that alone deactivates no key; in a sentence."""


@dataclass(frozen=True, slots=True)
class Found:
    """A record of another system that can become a key.

    Its values are such that a key may have them. `ref` is what KeyOrigin calls it, and `shown` what people are told. It
    may be here by any of the `digests`; the first is that of a new key. Without `scopes` it gets
    `KEYS["DEFAULT_SCOPES"]`.
    """

    ref: str
    shown: str
    name: str
    digests: Sequence[Digest]
    prefix: str = ""
    typed_by_hand: bool = False
    is_active: bool = True
    created_at: datetime | None = None
    expires_at: datetime | None = None
    owner_ref: str = ""
    scopes: Sequence[str] | None = None

    @property
    def is_good(self) -> bool:
        """Whether the other system accepts the key."""
        return not objection_of(self.is_active, self.expires_at)

    def key(self) -> APIKey:
        """Return the key as it is saved here."""
        key = APIKey(
            name=self.name,
            key=self.digests[0],
            prefix=self.prefix,
            typed_by_hand=self.typed_by_hand,
            is_active=self.is_active,
            expires_at=self.expires_at,
            owner_ref=self.owner_ref,
            **({} if self.scopes is None else {"scopes": list(self.scopes)}),
        )
        key.made_at = self.created_at
        return key


@dataclass(frozen=True, slots=True)
class Left:
    """A record that cannot become a key, and why.

    It `has_no_key` if what it holds of one is none; otherwise the other system may accept it all the same. Of one whose
    key an earlier record has, `second` is what could be read.
    """

    ref: str
    shown: str
    reason: str
    has_no_key: bool = False
    second: Found | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """A record that came before and is no longer good there, while its key is accepted here."""

    shown: str
    what: str
    key_id: int
    key: str


@dataclass
class Report:
    """What became of the records, by number, and of which there is more to say."""

    imported: int = 0
    here_already: int = 0
    deleted_here: int = 0
    deactivated: int = 0
    left: list[Left] = field(default_factory=list)
    changed: list[Changed] = field(default_factory=list)


def take_over(
    pages: Iterable[Sequence[Found | Left]],
    source: str,
    *,
    dry_run: bool = False,
    deactivates: bool = False,
    progress: Callable[[int], None] = lambda read: None,
) -> Report:
    """Make keys of the records that are not here yet, all or none, and return what became of each.

    `source` names the other system for KeyOrigin. With `dry_run` nothing is written. With `deactivates`, keys are
    deactivated whose records are no longer good there. Raises StrangeTableError then, if no key there is one of ours.
    """
    using = router.db_for_write(APIKey)
    taking = _Taking(source, using, dry_run, deactivates)
    if dry_run:
        return taking.run(pages, progress)
    with transaction.atomic(using=using):
        return taking.run(pages, progress)


class _Taking:
    def __init__(self, source: str, using: str, dry_run: bool, deactivates: bool) -> None:
        self._source, self._using = source, using
        self._dry_run, self._deactivates = dry_run, deactivates
        self._report = Report()
        # 16 octets of each: of a million records, some 200 MB are held in all.
        self._keys: dict[bytes, bool] = {}  # whether a record is good that has it
        self._refs: set[bytes] = set()
        self._has_met = False
        # Keys here by their ids: those that a record has that is good, and those of records that are not.
        self._good: set[int] = set()
        self._doubted: dict[int, tuple[Changed, APIKey, bool]] = {}

    def run(self, pages: Iterable[Sequence[Found | Left]], progress: Callable[[int], None]) -> Report:
        origins = KeyOrigin.objects.using(self._using).filter(source=self._source)
        last = origins.order_by("-pk").values_list("pk", flat=True).first()
        for page in pages:
            self._refs.update(_short(record.ref) for record in page)
            self._take([*self._once(page)])
            progress(len(page))
        if last is not None:
            if self._deactivates and not self._has_met:
                raise StrangeTableError(
                    "No record of that table has a key that is here, and for that alone none is deactivated: is it"
                    " another table, or another database?"
                )
            self._look_for_gone(origins, last)
            self._end()
        return self._report

    def _once(self, page: Sequence[Found | Left]) -> Iterator[Found | Left]:
        """Yield the records; as an obstacle those whose key an earlier one has."""
        for record in page:
            if isinstance(record, Found):
                mark = _short(record.digests[0])
                was_good = self._keys.get(mark)
                self._keys[mark] = record.is_good or was_good is True
                if was_good is not None:
                    reason = TWICE_ENDED if record.is_good and not was_good else TWICE
                    record = Left(record.ref, record.shown, reason, second=record)
            yield record

    def _take(self, page: Sequence[Found | Left]) -> None:
        new = self._new(page)
        while new and not self._dry_run:
            try:
                with transaction.atomic(using=self._using):
                    self._save(new)
                break
            except IntegrityError:
                # Somebody has made one of these keys at this moment: an adopting keyring, or another import.
                still = self._new([record for record, _ in new])
                if len(still) == len(new):
                    raise
                new = still
        self._report.imported += len(new)

    def _new(self, page: Sequence[Found | Left]) -> list[tuple[Found, APIKey]]:
        """Return the records that are not here, with the keys that they become, and count the others."""
        known = _Known(self._source, self._using, page)
        new, unnamed = [], []
        for record in page:
            held, row = _held(record), known.key_of(record)
            if (same := known.with_key_of(held)) is not None and held is not None and held.is_good:
                self._good.add(same.pk)
            # One of which something else cannot be read may have its key as before.
            may_have_key = held is None and isinstance(record, Left) and not record.has_no_key and row is not None
            self._has_met = self._has_met or same is not None or may_have_key
            if row is not None:
                self._report.here_already += 1
                self._compare(record, row)
                if not known.has_origin(record):
                    unnamed.append(self._origin(record, row.pk))
            elif known.has_origin(record):
                self._report.deleted_here += 1
            elif isinstance(record, Left):
                self._report.left.append(record)
            else:
                new.append((record, record.key()))
        if unnamed and not self._dry_run:
            KeyOrigin.objects.using(self._using).bulk_create(unnamed, PAGE, ignore_conflicts=True)
        return new

    def _save(self, new: Sequence[tuple[Found, APIKey]]) -> None:
        made = APIKey.objects.using(self._using).create_checked(
            [key for _, key in new], PAGE, f"imported from {self._source}"
        )
        ids = {str(key.key): key.pk for key in made}
        if None in ids.values():  # MySQL does not tell them
            sought = [Sought(digest) for digest in ids]
            ids = dict(APIKey.objects.using(self._using).filter(key__in=sought).values_list("key", "pk"))
        origins = [self._origin(record, ids[record.digests[0]]) for record, _ in new]
        KeyOrigin.objects.using(self._using).bulk_create(origins, PAGE)

    def _origin(self, record: Found | Left, key_id: int) -> KeyOrigin:
        at = moments.instant(timezone.now())
        return KeyOrigin(source=self._source, ref=record.ref, api_key_id=key_id, at=at)

    def _compare(self, record: Found | Left, key: APIKey) -> None:
        """Doubt a key that is accepted here while its record is no longer good there."""
        what, ends, held = "", True, _held(record)
        if isinstance(record, Left) and held is None:
            what, ends = f"cannot come any more: {record.reason}", record.has_no_key
        elif held is not None and key.key not in held.digests:
            what = ANOTHER
        elif held is not None and not held.is_good:
            what = EXPIRED if held.is_active else INACTIVE
        if what:
            self._doubt(record.shown, what, key, ends=ends)

    def _look_for_gone(self, origins: Any, last: int) -> None:
        """Doubt the keys that are accepted here, and whose records are not there any more."""
        rows, after = origins.filter(pk__lte=last, api_key__is_active=True).order_by("pk"), 0
        while page := list(rows.filter(pk__gt=after).select_related("api_key")[:PAGE]):
            after = page[-1].pk
            for origin in page:
                if _short(origin.ref) not in self._refs:
                    self._doubt(f"{self._source} {origin.told_ref}".strip(), GONE, origin.api_key, ends=True)

    def _doubt(self, shown: str, what: str, key: APIKey, *, ends: bool) -> None:
        if not key.objection:
            self._doubted.setdefault(key.pk, (Changed(shown, what, key.pk, str(key)), key, ends))

    def _end(self) -> None:
        """Report the doubted keys that no other record has that is good there, and deactivate them."""
        for changed, key, ends in self._doubted.values():
            if key.pk in self._good:
                continue
            self._report.changed.append(changed)
            if self._deactivates and ends:
                self._report.deactivated += 1
                if not self._dry_run:
                    key.deactivate(f"its record in {self._source} {changed.what}")


class _Known:
    """Which records of a page are here, read with a statement or two."""

    def __init__(self, source: str, using: str, page: Sequence[Found | Left]) -> None:
        keys = APIKey.objects.using(using)
        refs = [record.ref for record in page]
        origins = KeyOrigin.objects.using(using).filter(source=source, ref__in=refs)
        self._origins: dict[str, int] = dict(origins.values_list("ref", "api_key_id"))
        sought = [Sought(digest) for held in map(_held, page) if held is not None for digest in held.digests]
        self._by_digest = {str(key.key): key for key in keys.filter(key__in=sought)} if sought else {}
        self._by_id = keys.in_bulk(self._origins.values()) if self._origins else {}

    def has_origin(self, record: Found | Left) -> bool:
        return record.ref in self._origins

    def key_of(self, record: Found | Left) -> APIKey | None:
        """Return the key that the record became, or else the one with its token; None if there is none."""
        if (key := self._by_id.get(self._origins.get(record.ref))) is not None:
            return key
        return self.with_key_of(record if isinstance(record, Found) else None)

    def with_key_of(self, record: Found | None) -> APIKey | None:
        """Return the key with the token of the record; None if there is none."""
        digests = () if record is None else record.digests
        return next((self._by_digest[digest] for digest in digests if digest in self._by_digest), None)


def _held(record: Found | Left) -> Found | None:
    """Return what could be read of a record, also of the second with a key; None if it cannot come for itself."""
    return record if isinstance(record, Found) else record.second


def _short(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()
