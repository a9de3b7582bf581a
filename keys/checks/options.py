"""Checks of `settings.KEYS`: every option is known and has a valid value. `conf` has the rules for types and forms."""

from collections.abc import Mapping
from typing import Any

from django.core import checks

from .. import scopes
from ..conf import Mistake, configured, is_scope, nearest, unknown, unusable


@checks.register("keys")
def check_options(**kwargs: object) -> list[checks.CheckMessage]:
    return [error(mistake) for mistake in [*unusable(), *unknown()]]


@checks.register("keys")
def check_default_scopes_are_registered(**kwargs: object) -> list[checks.CheckMessage]:
    defaults = configured()["DEFAULT_SCOPES"]
    return [
        checks.Error(
            f'{scope!r} in KEYS["DEFAULT_SCOPES"] is not registered.', hint=hint_for(scope), id="keys.E004"
        )
        for scope in (unregistered(defaults) if isinstance(defaults, list | tuple) else [])
    ]


def error(mistake: Mistake) -> checks.CheckMessage:
    return checks.Error(mistake.message, hint=mistake.hint, id=mistake.id)


def registered_scopes() -> list[str]:
    """Return the registered scopes, without those that E003 reports."""
    registry = configured()["SCOPES"]
    return [scope for scope in registry if is_scope(scope)] if isinstance(registry, Mapping) else []


def ill_formed(required: list[Any] | tuple[Any, ...]) -> list[Any]:
    """Return the values that are not well-formed scopes."""
    return [scope for scope in required if not is_scope(scope)]


def unregistered(required: list[Any] | tuple[Any, ...]) -> list[str]:
    """Return the well-formed scopes that are not registered."""
    return scopes.unknown([scope for scope in required if is_scope(scope)], registered_scopes())


def hint_for(scope: object) -> str:
    """Return how to correct a scope that is ill-formed or not registered."""
    if not is_scope(scope):
        return "Write resource:action, resource:* or *."
    return nearest(scope, registered_scopes()) + ' Register it in KEYS["SCOPES"] otherwise.'
