"""What a scope is, and which scopes grant it. Pure functions, no Django."""

import re
from collections.abc import Collection, Iterable, Sequence

EVERYTHING = "*"

_SCOPE = re.compile(r"[A-Za-z0-9_.-]+:(\*|[A-Za-z0-9_.-]+)\Z")


def is_well_formed(scope: str) -> bool:
    """Tell whether the text is `resource:action`, `resource:*` or `*`."""
    return scope == EVERYTHING or _SCOPE.match(scope) is not None


def grants(held: Sequence[str], required: str) -> bool:
    """Tell whether the held scopes include the required one, by name or by a wildcard.

    Only a list grants: raw SQL bypasses the validators, and `in` finds any part of a text.
    """
    if not isinstance(held, list | tuple):
        return False
    return required in held or EVERYTHING in held or f"{required.partition(':')[0]}:*" in held


def first_missing(held: Sequence[str], required: Iterable[str]) -> str | None:
    """Return the first required scope that the held ones do not grant; None if they grant all."""
    return next((scope for scope in required if not grants(held, scope)), None)


def unknown(scopes: Iterable[str], registry: Collection[str]) -> list[str]:
    """Return the scopes that are not in the registry. An empty registry knows every scope.

    `*` is always known; `resource:*` is known if a registered scope has that resource.
    """
    if not registry:
        return []
    resources = {scope.partition(":")[0] for scope in registry}
    known = {EVERYTHING, *registry, *(f"{resource}:*" for resource in resources)}
    return [scope for scope in scopes if scope not in known]
