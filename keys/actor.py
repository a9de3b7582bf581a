"""Who is changing keys: set where a change comes in, read where it is recorded."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_actor: ContextVar[str] = ContextVar("keys_actor", default="shell")


@contextmanager
def acting_as(name: str) -> Iterator[None]:
    """Record every change to a key inside the block as done by `name`, e.g. `user: alice`."""
    token = _actor.set(name)
    try:
        yield
    finally:
        _actor.reset(token)


def current() -> str:
    """Return the current actor; `shell` if none is set."""
    return _actor.get()
