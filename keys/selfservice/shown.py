"""What the pages say of a key, and of how many more there may be."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Case, Count, Value, When
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from .. import moments
from ..audit.reach import Reach, reach
from ..conf import self_service, sentence_of
from ..models import APIKey
from ..models.querysets import accepted_at
from ..redaction import printable
from . import rules
from .layout import Links


@dataclass
class ShownKey:
    """A key as a page shows it."""

    key: APIKey
    links: Links
    owner: str = ""  # its name, where the user acts for several

    @property
    def url(self) -> str:
        return self.links.of("key", self.key.pk)

    @property
    def change_url(self) -> str:
        return self.links.of("change", self.key.pk)

    @property
    def rotate_url(self) -> str:
        return self.links.of("rotate", self.key.pk)

    @property
    def deactivate_url(self) -> str:
        return self.links.of("deactivate", self.key.pk)

    @property
    def scopes(self) -> list[tuple[str, str]]:
        """Each scope with its sentence."""
        return [(scope, sentence_of(scope)) for scope in self.key.scopes]

    @property
    def has_end(self) -> bool:
        """Whether there is something to say of its end: not of a key that was ended before."""
        return self.key.state != "inactive"

    @property
    def end(self) -> str:
        """The day on which it ends, for people; empty if it goes on."""
        return "" if self.key.expires_at is None else moments.day_in_words(self.key.expires_at)

    @property
    def end_exactly(self) -> str:
        """The moment at which it ends, to the minute; empty if it goes on."""
        return "" if self.key.expires_at is None else moments.exactly(self.key.expires_at)

    @property
    def made(self) -> str:
        return moments.day_in_words(self.key.created_at)

    @property
    def is_accepted(self) -> bool:
        return not self.key.objection

    @property
    def why_not_rotated(self) -> str:
        """Why there is no button to rotate it, as a sentence; empty if there is one."""
        if self.key.objection:
            return _("It is refused already. Make a new key instead.")
        if self.key.replaced_by_id is not None:
            return _("It has been rotated already.")
        if given := rules.beyond(self.key.scopes):
            text = _("It may do what you cannot give: %(scopes)s. Ask an administrator to rotate it.")
            return text % {"scopes": ", ".join(given)}
        return ""


@dataclass
class Limit:
    """How many keys of an owner are accepted, of how many at most."""

    owner: str
    used: int
    most: int

    @property
    def is_reached(self) -> bool:
        return self.used >= self.most

    @property
    def words(self) -> str:
        return _("%(used)d of %(most)d keys") % {"used": self.used, "most": self.most}


class UserKeys:
    """The keys that one user may look after, and the owners for which the user acts."""

    def __init__(self, request: HttpRequest) -> None:
        self.user: Any = request.user
        self.links = Links(request)
        self.owners = rules.owners_of(self.user)
        self.mine = rules.keys_of(self.user)
        self._limits: dict[str, Limit] | None = None

    @property
    def has_several_owners(self) -> bool:
        return len(self.owners) > 1

    def chosen(self, ref: str) -> str:
        """Return the reference if it is one of the user's owners; else an empty text."""
        return ref if ref in self.owners else ""

    def name(self, ref: str) -> str:
        """Return how an owner is called."""
        return printable(str(self.owners[ref])) if ref in self.owners else ref

    def limits(self) -> dict[str, Limit]:
        """Return how many keys each of the owners has, by reference, from one query."""
        if self._limits is None:
            most = self_service()["MOST_KEYS"]
            accepted = self.mine.accepted().order_by().values_list("owner_ref")
            used = dict(accepted.annotate(number=Count("pk")))
            self._limits = {ref: Limit(self.name(ref), used.get(ref, 0), most) for ref in self.owners}
        return self._limits

    @property
    def limit(self) -> Limit | None:
        """The limit of the user's only owner; None if there are several."""
        return None if self.has_several_owners else next(iter(self.limits().values()), None)

    @property
    def is_full(self) -> bool:
        """Whether none of the owners may have one more key."""
        return all(limit.is_reached for limit in self.limits().values())

    def labels(self) -> dict[str, str]:
        """Return each owner's name with its limit, for a list to choose from."""
        return {ref: f"{limit.owner} ({limit.words})" for ref, limit in self.limits().items()}

    def keys(self, ref: str = "") -> Any:
        """Return the keys, or those of one owner, with their last use: those that are accepted first."""
        keys = self.mine.with_last_used()
        keys = keys.of_owner(ref) if ref else keys
        ended = Case(When(accepted_at(timezone.now()), then=Value(0)), default=Value(1))
        return keys.order_by(ended, "name", "-pk")

    def shown(self, keys: Iterable[APIKey]) -> list[ShownKey]:
        """Return the keys as a page shows them."""
        listed, known = list(keys), reach()
        return [self._shown(key, known) for key in listed]

    def _shown(self, key: APIKey, known: Reach) -> ShownKey:
        key.reach = known  # type: ignore[attr-defined]
        return ShownKey(key, self.links, self.name(key.owner_ref) if self.has_several_owners else "")
