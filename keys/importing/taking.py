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
from ..models.fields import Digest, Sought
from ..redaction import has_control_characters, printable
from .values import has_passed

PAGE = 500  # records that are held at once

GONE = "is not there any more"
INACTIVE = "is inactive there"
EXPIRED = "has expired there"
ANOTHER = "has another key there"
TWICE = "the same key as another record, which comes first"


class EmptyTableError(Exception):
    """Nothing is left in the other table, and that alone deactivates no key; in a sentence."""


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
    """A record that cannot become a key, and why."""

    ref: str
    shown: str
    reason: str


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
    deactivated whose records are no longer good there. Raises EmptyTableError then, if there is no record at all.
    """
    using = router.db_for_write(APIKey)
    taking = _Taking(source, using, dry_run, deactivates)
    if dry_run:
        return taking.run(pages, progress)
    with transaction.atomic(using=using):
        return taking.run(pages, progress)


def acceptable(name: str) -> str:
    """Return the name as a key may have it: as the log would show it if it holds control characters, and cut."""
    name = name.strip()
    longest: Any = APIKey._meta.get_field("name").max_length
    return (printable(name) if has_control_characters(name) else name)[:longest].strip()


class _Taking:
    def __init__(self, source: str, using: str, dry_run: bool, deactivates: bool) -> None:
        self._source, self._using = source, using
        self._dry_run, self._deactivates = dry_run, deactivates
        self._report = Report()
        # 16 octets of each: of a million records, some 200 MB are held in all.
        self._keys: set[bytes] = set()
        self._refs: set[bytes] = set()

    def run(self, pages: Iterable[Sequence[Found | Left]], progress: Callable[[int], None]) -> Report:
        origins = KeyOrigin.objects.using(self._using).filter(source=self._source)
        last = origins.order_by("-pk").values_list("pk", flat=True).first()
        for page in pages:
            self._refs.update(_short(record.ref) for record in page)
            self._take([*self._once(page)])
            progress(len(page))
        if last is not None:
            if self._deactivates and not self._refs:
                raise EmptyTableError(
                    "There is no record left in that table, and for that alone no key is deactivated."
                )
            self._look_for_gone(origins, last)
        return self._report

    def _once(self, page: Sequence[Found | Left]) -> Iterator[Found | Left]:
        """Yield the records; as an obstacle those whose key an earlier one has."""
        for record in page:
            if isinstance(record, Found):
                mark = _short(record.digests[0])
                if mark in self._keys:
                    record = Left(record.ref, record.shown, TWICE)
                self._keys.add(mark)
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
            row = known.key_of(record)
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
        """Report a key that is accepted here while its record is no longer good there."""
        if isinstance(record, Left):
            what = "" if record.reason == TWICE else f"cannot come any more: {record.reason}"
        elif key.key not in record.digests:
            what = ANOTHER
        elif not record.is_active:
            what = INACTIVE
        else:
            what = EXPIRED if has_passed(record.expires_at) else ""
        if what and not key.objection:
            self._has_changed(record.shown, what, key)

    def _look_for_gone(self, origins: Any, last: int) -> None:
        """Report the keys that are accepted here, and whose records are not there any more."""
        rows, after = origins.filter(pk__lte=last, api_key__is_active=True).order_by("pk"), 0
        while page := list(rows.filter(pk__gt=after).select_related("api_key")[:PAGE]):
            after = page[-1].pk
            for origin in page:
                if _short(origin.ref) not in self._refs and not origin.api_key.objection:
                    self._has_changed(f"{self._source} {origin.told_ref}".strip(), GONE, origin.api_key)

    def _has_changed(self, shown: str, what: str, key: APIKey) -> None:
        self._report.changed.append(Changed(shown, what, key.pk, str(key)))
        if self._deactivates:
            self._report.deactivated += 1
            if not self._dry_run:
                key.deactivate(f"its record in {self._source} {what}")


class _Known:
    """Which records of a page are here, read with a statement or two."""

    def __init__(self, source: str, using: str, page: Sequence[Found | Left]) -> None:
        keys = APIKey.objects.using(using)
        refs = [record.ref for record in page]
        origins = KeyOrigin.objects.using(using).filter(source=source, ref__in=refs)
        self._origins: dict[str, int] = dict(origins.values_list("ref", "api_key_id"))
        sought = [Sought(digest) for record in page if isinstance(record, Found) for digest in record.digests]
        self._by_digest = {str(key.key): key for key in keys.filter(key__in=sought)} if sought else {}
        self._by_id = keys.in_bulk(self._origins.values()) if self._origins else {}

    def has_origin(self, record: Found | Left) -> bool:
        return record.ref in self._origins

    def key_of(self, record: Found | Left) -> APIKey | None:
        """Return the key that the record became, or else the one with its token; None if there is none."""
        if (key := self._by_id.get(self._origins.get(record.ref))) is not None:
            return key
        digests = record.digests if isinstance(record, Found) else ()
        return next((self._by_digest[digest] for digest in digests if digest in self._by_digest), None)


def _short(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()
