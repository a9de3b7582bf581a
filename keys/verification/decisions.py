"""What was decided on one request, of which key. Decides nothing itself."""

from __future__ import annotations

from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ref

from django.http import HttpRequest

from ..audit import statements
from ..audit.places import Place
from ..credentials import Presented

if TYPE_CHECKING:
    from .guard import Guard
    from .use import Use


class Foresight(Protocol):
    """What the middleware knew of the view before it ran."""

    def was_wrong(self, method: str, guard: Guard) -> None:
        """Take note that the view did not ask for a key that earlier requests were asked for."""

    def was_late(self, method: str, guard: Guard, can_learn: bool) -> None:
        """Take note that the view asked for a key in its transaction, which no row survives if the worker dies.

        `can_learn`: the request itself presented the key, so the next one's can be verified before the view.
        """


class Decisions:
    """What was decided on one request. Its copies share it; a request that the view builds afresh has its own.

    A decision belongs to the key that was presented, and not to the object that presents it: another key in a copy, or
    in the same object, is another decision with a row of its own. The same key again is the same decision.
    """

    __slots__ = (
        "answered", "foresight", "guards", "guesses", "is_concluded", "is_open", "made", "meta", "method", "nested",
        "outer", "place", "request_id",
    )  # fmt: skip

    def __init__(self, request: HttpRequest, outer: Decisions | None = None) -> None:
        self.request_id, self.answered = id(request), ref(request)  # a plain reference would be a cycle
        self.meta, self.method = request.META, request.method or ""
        # Of the request of which this one is a copy.
        self.outer = outer
        # The guard, what was presented, and what was decided; no use if no key was presented. Plain tuples for speed.
        self.made: list[tuple[Guard, Presented, Use | None]] = []
        self.guards: list[Guard] = []  # those expected before the view, and those that it asked
        self.guesses: list[Use] = []  # verified before the view because earlier requests asked for them
        self.nested: dict[int, tuple[HttpRequest, Decisions]] = {}
        self.foresight: Foresight | None = None
        self.place: Place | None = None  # before the view, if it may go to another tenant
        self.is_open = True  # until the answer is done
        self.is_concluded = False  # the middleware has concluded what was unfinished, and comes no more

    def __reduce__(self) -> tuple[Any, ...]:
        """Stay out of pickles of the request, which nobody concludes."""
        return type(None), ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Decisions:
        return self

    def find(self, guard: Guard, presented: Presented) -> tuple[bool, Use | None]:
        """Return whether this guard has decided about this key, in the tenant in use, and what."""
        for other, earlier, use in self.made:
            if (
                (other is guard or other == guard)
                and (earlier == presented or guard.wanted.is_same_key(earlier, presented))
                and (use is None or use.place is None or use.place == statements.changing_place())
            ):
                return True, use
        return (False, None) if self.outer is None else self.outer.find(guard, presented)

    def add(self, guard: Guard, presented: Presented, use: Use | None) -> None:
        self.made.append((guard, presented, use))
        if guard not in self.guards:
            self.guards.append(guard)

    def unfinished(self) -> list[Use]:
        """Return the uses without an outcome, those of nested requests too."""
        own = [use for _, _, use in self.made if use is not None and use.is_unfinished]
        return own + [use for _, nested in self.nested.values() for use in nested.unfinished()] if self.nested else own

    def within(self, request: HttpRequest) -> Decisions:
        """Return the decisions on a request that the view has built afresh."""
        found = self.nested.get(id(request))
        if found is None:
            nested = Decisions(request)
            nested.foresight, nested.method, nested.meta = self.foresight, self.method, {}
            nested.place = self.place
            self.keep_out_of_caches()
            # With the request itself: the id of one that is gone is given to another.
            found = self.nested[id(request)] = (request, nested)
        return found[1]

    def keep_out_of_caches(self) -> None:
        """Keep the answer out of Django's caches also where a request within this one was asked for a key."""
        if (request := self.answered()) is not None:
            keep_out_of_caches(request)

    def tell_late(self, guard: Guard, presented: Presented) -> None:
        """Tell the foresight that this key is decided within the view, unless that was to be expected."""
        own = guard.wanted.presented(self.meta)
        is_own = own == presented and not any(use is not None and other == guard for other, _, use in self.made)
        is_own = is_own and self.place == statements.changing_place()
        # A guard behind an authenticator of another kind is expected, and has to wait for it.
        if self.foresight is not None and not (is_own and guard in self.guards):
            self.foresight.was_late(self.method, guard, is_own)


# The request that is being answered, for those that its view builds afresh.
current: ContextVar[Decisions | None] = ContextVar("keys_decisions", default=None)


def keep_out_of_caches(request: Any) -> None:
    """Keep the answer out of Django's caches, which would give it to other keys, or without any.

    `cache_page` on a handler comes after the guard, and notes on the request that the answer is to be kept. So this
    request takes no such note. It may also be a request of Django REST framework, which holds notes of its own.
    """
    request_class: Any = type(request)
    if not hasattr(request_class, "_cache_update_cache"):
        request.__class__ = _class_without_caching(request_class)


@cache
def _class_without_caching(request_class: type) -> type:
    never = property(lambda request: False, lambda request, value: None)
    names = {name: getattr(request_class, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(request_class.__name__, (request_class,), {**names, "_cache_update_cache": never})


def decisions_on(request: HttpRequest) -> Decisions | None:
    """Return what was decided on this request; None outside the middleware."""
    decisions: Decisions | None = getattr(request, "api_key_uses", None)
    if decisions is None:
        answered = current.get()
        return None if answered is None else answered.within(request)
    # A copy that is kept beyond its request must not keep a key's decision, which may be out of date.
    return decisions if decisions.is_open or decisions.request_id == id(request) else None
