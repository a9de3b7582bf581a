"""Checks of keys in environment variables: they are set, long enough and usable. No message shows a value."""

from collections.abc import Iterable
from contextlib import suppress

from django.core import checks

from .. import environment, tokens
from ..audit.sealing import SEAL_KEY, seal_key_values
from ..conf import environment_folder
from ..endpoints import environment_keyrings
from ..keyrings import EnvironmentKeyring, KeyStoreError
from .options import hint_for, ill_formed, unregistered

_GENERATE = "`manage.py keys_generate` makes a good one."


@checks.register("keys")
def check_keys_are_long_enough(**kwargs: object) -> list[checks.CheckMessage]:
    return [
        checks.Error(
            f"The environment variable {variable} holds a key shorter than {environment.MIN_LENGTH} characters.",
            hint=f"{_GENERATE} A comma separates one key from the next.",
            id="keys.E013",
        )
        for variable, values in _secrets().items()
        if any(len(value) < environment.MIN_LENGTH for value in values)
    ]


@checks.register("keys")
def check_keys_can_match(**kwargs: object) -> list[checks.CheckMessage]:
    return [
        checks.Error(
            f"The environment variable {variable} holds a key that no request can present: it is longer than "
            f"{tokens.MAX_PRESENTED_LENGTH} characters, or not printable ASCII.",
            hint=_GENERATE,
            id="keys.E014",
        )
        for variable, values in _values().items()
        if not all(tokens.is_presentable(value) for value in values)
    ]


@checks.register("keys")
def check_switches_are_boolean(**kwargs: object) -> list[checks.CheckMessage]:
    return [
        checks.Error(
            f"The environment variable {ring.enabled_by} is not a boolean, so the keys of {ring.variable} are refused.",
            hint=f"Set {ring.enabled_by} to true or false.",
            id="keys.E015",
        )
        for ring in _distinct(ring for ring in _keyrings() if _is_enabled(ring) is None)
    ]


@checks.register("keys")
def check_scopes_of_keys(**kwargs: object) -> list[checks.CheckMessage]:
    return [
        checks.Error(
            f"The keys of the environment variable {ring.variable} have {scope!r}, which is not a registered scope.",
            hint=hint_for(scope),
            id="keys.E016",
        )
        for ring in _keyrings()
        for scope in _wrong_scopes(ring)
    ]


@checks.register("keys")
def check_variables_are_set(**kwargs: object) -> list[checks.CheckMessage]:
    return [
        checks.Warning(
            f"The environment variable {variable} guards a view and is set nowhere.",
            hint=f"Set it in the environment or in .env, or take it out of the code. {_GENERATE}",
            id="keys.W005",
        )
        for variable, values in _values().items()
        if not values
    ]


@checks.register("keys")
def check_keys_differ(**kwargs: object) -> list[checks.CheckMessage]:
    holders: dict[str, list[str]] = {}
    for variable, values in _secrets().items():
        for value in dict.fromkeys(values):
            holders.setdefault(value, []).append(variable)
    return [
        checks.Warning(
            f"The environment variables {' and '.join(variables)} hold the same key.",
            hint="The audit log cannot tell them apart, and taking the key out of one leaves it good in the other. "
            + _GENERATE,
            id="keys.W006",
        )
        for variables in dict.fromkeys(tuple(variables) for variables in holders.values() if len(variables) > 1)
    ]


@checks.register("keys")
def check_the_file_can_be_read(**kwargs: object) -> list[checks.CheckMessage]:
    sentence = environment.obstacle(environment_folder())
    hint = "Keys that are only in this file are refused with 503, until it can be read and the service is restarted."
    return [checks.Error(sentence, hint=hint, id="keys.E024")] if sentence else []


def _keyrings() -> list[EnvironmentKeyring]:
    return list(dict.fromkeys(ring for _, ring in environment_keyrings()))


def _distinct(rings: Iterable[EnvironmentKeyring]) -> list[EnvironmentKeyring]:
    """Drop keyrings that differ only in their scopes."""
    return list({(ring.variable, ring.enabled_by): ring for ring in rings}.values())


def _is_enabled(ring: EnvironmentKeyring) -> bool | None:
    """Tell whether the keyring is enabled; None if `enabled_by` holds no boolean."""
    try:
        return ring.is_enabled()
    except ValueError:
        return None
    except environment.UnreadableFileError:
        return True  # keys.E024 says so


def _values() -> dict[str, list[str]]:
    """Return the keys in each variable that an enabled keyring reads."""
    found = {}
    for ring in _keyrings():
        with suppress(KeyStoreError):
            if _is_enabled(ring):
                found[ring.variable] = ring.values()
    return found


def _secrets() -> dict[str, list[str]]:
    """Return the keys of requests, and those that sign seals."""
    with suppress(environment.UnreadableFileError):
        return {**_values(), SEAL_KEY: seal_key_values()}
    return _values()


def _wrong_scopes(ring: EnvironmentKeyring) -> list[object]:
    if isinstance(ring.scopes, str) or not isinstance(ring.scopes, Iterable):
        return [ring.scopes]
    return [*ill_formed([*ring.scopes]), *unregistered([*ring.scopes])]
