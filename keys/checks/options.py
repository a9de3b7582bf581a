"""Checks of `settings.KEYS`: every option is known and has a valid value."""

from collections.abc import Mapping
from datetime import timedelta
from difflib import get_close_matches
from typing import Any, TypeGuard

from django.conf import settings
from django.core import checks
from django.utils.functional import Promise

from .. import scopes, tokens
from ..conf import DEFAULTS

MAX_PREFIX_LENGTH = tokens.MAX_PRESENTED_LENGTH - tokens.LENGTH


@checks.register("keys")
def check_keys_is_a_dictionary(**kwargs: object) -> list[checks.CheckMessage]:
    if isinstance(getattr(settings, "KEYS", {}), Mapping):
        return []
    return [checks.Error("KEYS is not a dictionary.", hint='Write KEYS = {"SCOPES": {...}, ...}.', id="keys.E001")]


@checks.register("keys")
def check_options_are_known(**kwargs: object) -> list[checks.CheckMessage]:
    return [
        checks.Error(f"KEYS has no option {name!r}.", hint=_nearest(str(name).upper(), list(DEFAULTS)), id="keys.E002")
        for name in options()
        if name not in DEFAULTS
    ]


@checks.register("keys")
def check_scopes(**kwargs: object) -> list[checks.CheckMessage]:
    registry = options()["SCOPES"]
    hint = 'Write "SCOPES": {"users:read": "Read the details of users."}.'
    if not isinstance(registry, Mapping):
        return [checks.Error('KEYS["SCOPES"] is not a dictionary.', hint=hint, id="keys.E003")]
    wrong = [f"{scope!r} is not a scope" for scope in registry if not is_scope(scope)]
    wrong += [f"{scope!r} has no sentence" for scope, text in registry.items() if not isinstance(text, str | Promise)]
    return [checks.Error(f'{what} in KEYS["SCOPES"].', hint=hint, id="keys.E003") for what in wrong]


@checks.register("keys")
def check_default_scopes(**kwargs: object) -> list[checks.CheckMessage]:
    defaults = options()["DEFAULT_SCOPES"]
    if not isinstance(defaults, list | tuple):
        hint = 'Write "DEFAULT_SCOPES": ["users:read"].'
        return [checks.Error('KEYS["DEFAULT_SCOPES"] is not a list.', hint=hint, id="keys.E004")]
    return [
        checks.Error(f'{scope!r} in KEYS["DEFAULT_SCOPES"] is not {wanted}.', hint=hint_for(scope), id="keys.E004")
        for wanted, wrong in (("a scope", ill_formed(defaults)), ("registered", unregistered(defaults)))
        for scope in wrong
    ]


@checks.register("keys")
def check_prefix(**kwargs: object) -> list[checks.CheckMessage]:
    # A prefix may end in hexadecimal digits: exactly 40 of them follow it.
    prefix = options()["PREFIX"]
    if prefix == "" or (isinstance(prefix, str) and _may_begin_a_key(prefix)):
        return []
    return [
        checks.Error(
            f'KEYS["PREFIX"] is not a text of up to {MAX_PREFIX_LENGTH} printable ASCII characters without blanks '
            "and commas.",
            hint='Write something that a secret scanner can find, such as "auth_live_".',
            id="keys.E005",
        )
    ]


@checks.register("keys")
def check_trusted_proxies(**kwargs: object) -> list[checks.CheckMessage]:
    number = options()["TRUSTED_PROXIES"]
    if type(number) is int and number >= 0:
        return []
    hint = "Write how many proxies of yours a request passes, 0 for none. Each adds an entry to X-Forwarded-For."
    return [checks.Error('KEYS["TRUSTED_PROXIES"] is not a number, 0 or more.', hint=hint, id="keys.E006")]


@checks.register("keys")
def check_switches(**kwargs: object) -> list[checks.CheckMessage]:
    return [
        checks.Error(f'KEYS["{name}"] is neither True nor False.', hint=f"The default is {default}.", id="keys.E007")
        for name, default in DEFAULTS.items()
        if isinstance(default, bool) and not isinstance(options()[name], bool)
    ]


@checks.register("keys")
def check_lengths_of_time(**kwargs: object) -> list[checks.CheckMessage]:
    return [
        checks.Error(
            f'KEYS["{name}"] is not a timedelta of 0 or more.',
            hint=f"The default is {default!r}.",
            id="keys.E008",
        )
        for name, default in DEFAULTS.items()
        if isinstance(default, timedelta)
        and not (isinstance(value := options()[name], timedelta) and value >= timedelta(0))
    ]


def options() -> dict[Any, Any]:
    """Return every option, as set or by default; only the defaults if KEYS is no dictionary."""
    configured = getattr(settings, "KEYS", {})
    return {**DEFAULTS, **(configured if isinstance(configured, Mapping) else {})}


def _may_begin_a_key(prefix: str) -> bool:
    # A comma joins a header that was sent twice, and a blank ends the keyword in `Authorization`.
    return tokens.is_presentable(prefix) and len(prefix) <= MAX_PREFIX_LENGTH and not {" ", ","} & {*prefix}


def _nearest(name: str, known: list[str]) -> str:
    """Return a hint with the most similar known name, or with all of them."""
    near = get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]}?" if near else f"Known are: {', '.join(known)}."


def is_scope(value: object) -> TypeGuard[str]:
    """Tell whether a value of any type is a well-formed scope."""
    return isinstance(value, str) and scopes.is_well_formed(value)


def registered_scopes() -> list[str]:
    """Return the registered scopes, without those that E003 reports."""
    registry = options()["SCOPES"]
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
    return _nearest(scope, registered_scopes()) + ' Register it in KEYS["SCOPES"] otherwise.'
