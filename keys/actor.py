"""Who is changing keys: the user of the request, the command, or what `acting_as` says; empty where nobody is known."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any
from weakref import ref

from django.core.management.base import BaseCommand
from django.db import connections, transaction
from django.utils.functional import LazyObject, empty

_named: ContextVar[str | None] = ContextVar("keys_actor", default=None)
# Returns the request that is being answered, which a task that outlives it must not keep.
answered: ContextVar[Callable[[], Any] | None] = ContextVar("keys_answered", default=None)


class Service:
    """A key, or whoever is logged in by one: `request.auth` or `request.user`."""

    @property
    def actor_name(self) -> str:
        """How it is named as an actor: `key:<name>` or `env:<VARIABLE>`."""
        raise NotImplementedError


class _ActingKey:
    """By which key a user acts. It gets into no pickle: a user out of a cache is there for other requests, too."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()

    def __deepcopy__(self, memo: dict[int, Any]) -> "_ActingKey":
        return self


def act_by_key(user: Any, name: str) -> None:
    """Note on this instance of a user that a key of theirs acts as them. It goes along to requests within requests."""
    user.__dict__["_acting_key"] = _ActingKey(name)


def acting_key(user: Any) -> str:
    """Return the name of the key that acts as this user; empty if it is the user, or no user."""
    if isinstance(user, LazyObject) and user._wrapped is empty:
        return ""  # not read yet, so of the session
    note = getattr(user, "_acting_key", None)
    return note.name if isinstance(note, _ActingKey) else ""


def is_person(user: Any) -> bool:
    """Tell whether somebody is logged in, and it is no key, nor one that acts as its owner."""
    return bool(user and user.is_authenticated) and not isinstance(user, Service) and not acting_key(user)


@contextmanager
def acting_as(name: str) -> Iterator[None]:
    """Record every change to a key inside the block as done by `name`, e.g. `user: alice`."""
    token = _named.set(name)
    try:
        yield
    finally:
        _named.reset(token)


@contextmanager
def answering(request: Any) -> Iterator[None]:
    """Record every change to a key inside the block as done by the user of this request, unless `acting_as` says more.

    `APIKeyMiddleware` does so for every request.
    """
    token = answered.set(ref(request))
    try:
        yield
    finally:
        answered.reset(token)


def current() -> str:
    """Return the current actor; empty if nobody is known."""
    if (named := _named.get()) is not None:
        return named
    if (get_request := answered.get()) is not None:
        return _user_of(get_request())
    return _command()


def _user_of(request: Any) -> str:
    """Return who is logged in, as the view's authenticator or the session says; a key by its own name.

    Where a key acts as its owner, both are named: `user: anna (key:Billing)`.
    """
    try:
        # Read now: whoever authenticates may do so in the view, and a session is read from the database.
        by = acting_key(getattr(request, "user", None))
        if isinstance(auth := getattr(request, "auth", None), Service) and not by:
            return auth.actor_name
        # Django Ninja has the user in `auth`; elsewhere it is a token, if anything.
        user = auth if getattr(auth, "is_authenticated", False) else _session_user(request)
        if user is None or not user.is_authenticated:
            return ""
        if isinstance(user, Service):
            return user.actor_name
        # A user who is known by a token alone may have no name.
        name = f"user: {(hasattr(user, 'get_username') and user.get_username()) or user}"
        return f"{name} ({by})" if by else name
    except Exception:
        # Sessions or users cannot be read. The change is recorded, with nobody.
        return ""


def _session_user(request: Any) -> Any:
    """Return the request's user; who is not read yet is read in savepoints, so that a failure undoes no change."""
    user = getattr(request, "user", None)
    if isinstance(user, LazyObject) and user._wrapped is empty:
        with ExitStack() as savepoints:
            for connection in connections.all(initialized_only=True):
                if connection.in_atomic_block:
                    savepoints.enter_context(transaction.atomic(using=connection.alias))
            bool(user)
    return user


def _command() -> str:
    """Return the management command that runs in this thread, with the user of the system; empty if none does."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        # Every command of Django's passes there, also one that another calls.
        if frame.f_code.co_name == "execute" and isinstance(command := frame.f_locals.get("self"), BaseCommand):
            package, _, name = type(command).__module__.rpartition(".")
            # What a command of ours did, its event says.
            which = "" if package == "keys.management.commands" else f" ({name})"
            return f"command line: {_system_user()}{which}"
        frame = frame.f_back
    return ""


def _system_user() -> str:
    from django.contrib.auth.management import get_system_username

    return get_system_username() or "unknown"
