"""Checks of `settings.KEYS`: every option is known and has a valid value. `conf` has the rules for types and forms."""

import inspect
from collections.abc import Iterator, Mapping
from datetime import timedelta
from inspect import iscoroutinefunction
from typing import Any

from django.core import checks
from django.utils.module_loading import import_string

from .. import scopes
from ..conf import DEFAULTS, Mistake, configured, is_dotted, is_scope, nearest, unknown, unusable


@checks.register("keys")
def check_keys_is_a_dictionary(**kwargs: object) -> list[checks.CheckMessage]:
    return [checks.Error(wrong.message, hint=wrong.hint, id="keys.E001") for wrong in mistakes_of("KEYS")]


@checks.register("keys")
def check_options_are_known(**kwargs: object) -> list[checks.CheckMessage]:
    return [checks.Error(wrong.message, hint=wrong.hint, id="keys.E002") for wrong in unknown()]


@checks.register("keys")
def check_scopes(**kwargs: object) -> list[checks.CheckMessage]:
    return [checks.Error(wrong.message, hint=wrong.hint, id="keys.E003") for wrong in mistakes_of("SCOPES")]


@checks.register("keys")
def check_default_scopes(**kwargs: object) -> list[checks.CheckMessage]:
    defaults = configured()["DEFAULT_SCOPES"]
    said = [(wrong.message, wrong.hint) for wrong in mistakes_of("DEFAULT_SCOPES")]
    for scope in unregistered(defaults) if isinstance(defaults, list | tuple) else []:
        said.append((f'{scope!r} in KEYS["DEFAULT_SCOPES"] is not registered.', hint_for(scope)))
    return [checks.Error(message, hint=hint, id="keys.E004") for message, hint in said]


@checks.register("keys")
def check_prefix(**kwargs: object) -> list[checks.CheckMessage]:
    return [checks.Error(wrong.message, hint=wrong.hint, id="keys.E005") for wrong in mistakes_of("PREFIX")]


@checks.register("keys")
def check_trusted_proxies(**kwargs: object) -> list[checks.CheckMessage]:
    return [checks.Error(wrong.message, hint=wrong.hint, id="keys.E006") for wrong in mistakes_of("TRUSTED_PROXIES")]


@checks.register("keys")
def check_switches(**kwargs: object) -> list[checks.CheckMessage]:
    return [checks.Error(wrong.message, hint=wrong.hint, id="keys.E007") for wrong in mistakes_of(*_options_of(bool))]


@checks.register("keys")
def check_lengths_of_time(**kwargs: object) -> list[checks.CheckMessage]:
    wrong_ones = mistakes_of(*_options_of(timedelta))
    return [checks.Error(wrong.message, hint=wrong.hint, id="keys.E008") for wrong in wrong_ones]


@checks.register("keys")
def check_sink(**kwargs: object) -> list[checks.CheckMessage]:
    return [checks.Error(wrong.message, hint=wrong.hint, id="keys.E017") for wrong in mistakes_of("AUDIT_SINK")]


@checks.register("keys")
def check_backlog_limit(**kwargs: object) -> list[checks.CheckMessage]:
    wrong_ones = mistakes_of("AUDIT_BACKLOG_LIMIT")
    return [checks.Error(wrong.message, hint=wrong.hint, id="keys.E019") for wrong in wrong_ones]


@checks.register("keys")
def check_function_that_answers(**kwargs: object) -> list[checks.CheckMessage]:
    said = [(wrong.message, wrong.hint) for wrong in mistakes_of("REFUSAL_RESPONSE")]
    if not said:
        path, form = configured()["REFUSAL_RESPONSE"], "(request, status, detail) -> HttpResponse"
        said.extend(why_not_called(path, 'KEYS["REFUSAL_RESPONSE"]', form, 3))
    return [checks.Error(message, hint=hint, id="keys.E041") for message, hint in said]


def why_not_called(path: str, option: str, form: str, arguments: int) -> Iterator[tuple[str, str]]:
    """Say why the function that an option names cannot be called with so many arguments, with a hint."""
    if not is_dotted(path):
        return
    hint = f"Write the dotted path of a function {form}."
    try:
        function = import_string(path)
    except Exception as error:
        # Whatever a module of the project's raises while it is imported.
        yield f"{option}, {path}, cannot be imported: {type(error).__name__}: {error}", hint
        return
    if iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
        yield f"{option}, {path}, is asynchronous, and nobody awaits it.", hint
    elif not callable(function):
        yield f"{option}, {path}, cannot be called.", hint
    elif not _takes(function, arguments):
        yield f"{option}, {path}, takes other arguments.", hint


def _takes(function: Any, arguments: int) -> bool:
    try:
        inspect.signature(function).bind(*[None] * arguments)
    except TypeError:
        return False
    except ValueError:
        return True  # nobody knows: it is written in C
    return True


def mistakes_of(*options: str) -> list[Mistake]:
    """Return what is wrong with the types and the forms of these options' values."""
    return [mistake for mistake in unusable() if mistake.option in options]


def _options_of(kind: type) -> list[str]:
    return [name for name, default in DEFAULTS.items() if type(default) is kind]


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
