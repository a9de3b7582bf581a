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
    """Return who is logged in, as the view's authenticator or the session says; a key by its own name."""
    try:
        # Read now: whoever authenticates may do so in the view, and a session is read from the database.
        if isinstance(auth := getattr(request, "auth", None), Service):
            return auth.actor_name
        # Django Ninja has the user in `auth`; elsewhere it is a token, if anything.
        user = auth if getattr(auth, "is_authenticated", False) else _session_user(request)
        if user is None or not user.is_authenticated:
            return ""
        if isinstance(user, Service):
            return user.actor_name
        # A user who is known by a token alone may have no name.
        return f"user: {(hasattr(user, 'get_username') and user.get_username()) or user}"
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
