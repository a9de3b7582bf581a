"""Checks of two systems in one header: each sees the tokens that are its own, and answers for no other."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from django.core import checks
from rest_framework.permissions import (
    AllowAny,
    DjangoModelPermissionsOrAnonReadOnly,
    IsAuthenticatedOrReadOnly,
)

from ..endpoints import Endpoint, endpoints, guard_of
from ..verification import Guard
from .views import once_for_each_view

# Whose `authenticate` answers 401 to what it does not know, after its word in `Authorization`.
_RAISING = {
    ("rest_framework.authentication", "TokenAuthentication"),
    ("rest_framework.authentication", "BasicAuthentication"),
    ("knox.auth", "TokenAuthentication"),
    ("rest_framework_simplejwt.authentication", "JWTAuthentication"),
}
_OPEN = (AllowAny, DjangoModelPermissionsOrAnonReadOnly, IsAuthenticatedOrReadOnly)


@checks.register("keys")
def check_keys_get_past_an_older_authenticator(**kwargs: object) -> list[checks.CheckMessage]:
    return once_for_each_view(
        checks.Warning(
            f"{name} answers 401 to keys after the word “{word}”, before the view asks for them.",
            hint="Put the authenticator of keys first, with leaves_unknown = True, or let the other return None for a "
            "token that it does not know.",
            obj=endpoint,
            id="keys.W039",
        )
        for endpoint, name, word, guard, is_first in _of_one_word()
        if not is_first
    )


@checks.register("keys")
def check_tokens_get_past_keys(**kwargs: object) -> list[checks.CheckMessage]:
    return once_for_each_view(
        checks.Error(
            f"{name} never sees a token after the word “{word}”: as it is no key, the authenticator before it answers "
            "401.",
            hint=f"Set leaves_unknown = True on the authenticator of keys, or take {name} away.",
            obj=endpoint,
            id="keys.E039",
        )
        for endpoint, name, word, guard, is_first in _of_one_word()
        if is_first and not guard.leaves_unknown
    )


@checks.register("keys")
def check_somebody_follows(**kwargs: object) -> list[checks.CheckMessage]:
    return once_for_each_view(
        checks.Warning(
            "The view leaves keys that it does not know to others, and nobody follows.",
            hint="Take leaves_unknown away, or name the other system's authenticator after this one.",
            obj=endpoint,
            id="keys.W040",
        )
        for endpoint in endpoints()
        if _leaves_to_nobody(endpoint)
    )


def _of_one_word() -> Iterator[tuple[Endpoint, str, str, Guard, bool]]:
    """Yield each view with an authenticator that reads the word of a guard's keys, and whether the guard is first."""
    for endpoint in endpoints():
        for one, other in combinations(endpoint.authenticators, 2):
            guard, is_first = guard_of(one), True
            if guard is None:
                guard, is_first, other = guard_of(other), False, one
            word = _word_of(other)
            if guard is not None and word.lower() in {keyword.lower() for keyword in guard.wanted.keywords}:
                yield endpoint, other.__name__, word, guard, is_first


def _word_of(authenticator: Any) -> str:
    """Return the word after which the authenticator answers for every token; empty if it may leave some."""
    classes = authenticator.__mro__ if isinstance(authenticator, type) else ()
    decides = next((each for each in classes if "authenticate" in vars(each)), object)
    if (decides.__module__, decides.__name__) not in _RAISING:
        return ""
    try:
        return str(authenticator().authenticate_header(None)).partition(" ")[0]
    except Exception:
        return ""  # the project's code, which may need a request


def _leaves_to_nobody(endpoint: Endpoint) -> bool:
    """Tell whether a guard leaves what it does not know, and nothing that is there can accept it."""
    decorated = [each for each in endpoint.decorations if each.api_key_guard.leaves_unknown]
    if any(not each.api_key_or_user for each in decorated):
        return True
    last = guard_of(endpoint.authenticators[-1]) if endpoint.authenticators else None
    if last is None or not last.leaves_unknown:
        return False
    return endpoint.is_operation or _lets_nobody_else_in(endpoint)


def _lets_nobody_else_in(endpoint: Endpoint) -> bool:
    """Tell whether the permissions are such as know users and keys alone; the project's own may read a header."""
    if endpoint.decides_by_request("permission_classes", "get_permissions"):
        return False
    known = [each for each in endpoint.permissions if isinstance(each, type) and each not in _OPEN]
    of_ours = [each for each in known if each.__module__.startswith(("keys.", "rest_framework."))]
    return bool(of_ours) and len(of_ours) == len(endpoint.permissions)
