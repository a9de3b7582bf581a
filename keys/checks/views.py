"""Checks of what views require: their scopes are registered, and their keyrings exist."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from django.core import checks
from rest_framework.permissions import BasePermission

from ..authentication import KeyringAuthentication
from ..conf import nearest
from ..endpoints import UNSEEN, Endpoint, endpoints
from ..permissions import HasResourceScope, HasScope, scopes_named
from ..verification import Guard
from .options import hint_for, ill_formed, unregistered


@checks.register("keys")
def check_scopes_of_views_are_registered(**kwargs: object) -> list[checks.CheckMessage]:
    return once_for_each_view(
        checks.Error(
            f'The view asks for the scope {scope!r}, which is not registered in KEYS["SCOPES"].',
            hint=hint_for(scope),
            obj=endpoint,
            id="keys.E009",
        )
        for endpoint in endpoints()
        for scope in unregistered(_scopes_of(endpoint))
    )


@checks.register("keys")
def check_scopes_of_views_are_well_formed(**kwargs: object) -> list[checks.CheckMessage]:
    return once_for_each_view(
        checks.Error(
            f"The view asks for {scope!r}, which is not a scope.", hint=hint_for(scope), obj=endpoint, id="keys.E010"
        )
        for endpoint in endpoints()
        for scope in ill_formed(_scopes_of(endpoint))
    )


@checks.register("keys")
def check_has_scope_names_scopes(**kwargs: object) -> list[checks.CheckMessage]:
    return once_for_each_view(
        checks.Error(
            f"The view's permission cannot be made: {made}",
            hint='Name the scopes: HasScope("users:read"). HasAPIKey asks for a key and no scope.',
            obj=endpoint,
            id="keys.E011",
        )
        for endpoint in endpoints()
        for made in _scope_permissions(endpoint)
        if isinstance(made, Exception)
    )


@checks.register("keys")
def check_authenticators_have_keyrings(**kwargs: object) -> list[checks.CheckMessage]:
    return once_for_each_view(
        checks.Error(
            f"The view's authenticator {authenticator.__name__} has no keyrings.",
            hint='Subclass it with variables = ("INTERNAL_API_KEY",), or with keyrings = (DatabaseKeyring(),).',
            obj=endpoint,
            id="keys.E012",
        )
        for endpoint in endpoints()
        for authenticator in endpoint.authenticators
        if isinstance(authenticator, type) and issubclass(authenticator, KeyringAuthentication)
        if not _has_keyrings(authenticator)
    )


@checks.register("keys")
def check_guards_can_work(**kwargs: object) -> list[checks.CheckMessage]:
    return once_for_each_view(
        checks.Error(
            f"The view's guard cannot work: {guard.mistake}",
            hint='Write header = "X-API-Key", keyrings = (DatabaseKeyring(),) or variables = ("INTERNAL_API_KEY",).',
            obj=endpoint,
            id="keys.E023",
        )
        for endpoint in endpoints()
        for guard in endpoint.guards
        if guard.mistake
    )


@checks.register("keys")
def check_keys_can_arrive(**kwargs: object) -> list[checks.CheckMessage]:
    return once_for_each_view(
        checks.Warning(mistake, hint=hint, obj=endpoint, id="keys.W038")
        for endpoint in endpoints()
        for guard in endpoint.guards
        for mistake, hint in _useless_in(guard)
    )


def _useless_in(guard: Guard) -> Iterator[tuple[str, str]]:
    """Yield each place of a guard in which no key is accepted, and what to write instead."""
    for header in guard.wanted.headers:
        if header.upper().startswith("HTTP-"):
            yield (
                f"The view's guard reads the header {header}, which looks like a name in request.META.",
                f'Write it as clients send it: "{header[5:]}".',
            )
        if header.lower() == "authorization" and guard.wanted.keywords:
            words = " or ".join(guard.wanted.keywords)
            yield (
                f"The view's guard reads Authorization as a whole and after {words}, which are two different keys.",
                "Leave one of them out: keyword = None, or Authorization among the headers.",
            )


@checks.register("keys")
def check_each_action_has_a_rule(**kwargs: object) -> list[checks.CheckMessage]:
    return once_for_each_view(
        checks.Error(
            f"No rule says which scope {action!r} asks for, so no key may do it.",
            hint='Name it, action_scopes = {"refund": "orders:refund"}, or the resource, HasResourceScope("orders"), '
            "whose scopes are asked for by all other actions. If no key may do it, name it with None.",
            obj=endpoint,
            id="keys.E033",
        )
        for endpoint in endpoints()
        if not endpoint.decides_by_request("permission_classes", "get_permissions")
        for permission in _resource_permissions(endpoint)
        for action, asked in endpoint.asked_by(permission).items()
        if asked is None and action not in endpoint.action_scopes
    )


@checks.register("keys")
def check_rules_are_for_actions(**kwargs: object) -> list[checks.CheckMessage]:
    return once_for_each_view(
        checks.Error(f"action_scopes {mistake}", hint=hint, obj=endpoint, id="keys.E034")
        for endpoint in endpoints()
        if any(_resource_permissions(endpoint)) and endpoint.action_scopes is not UNSEEN
        for mistake, hint in _mistakes_in(endpoint.action_scopes, endpoint)
    )


def _mistakes_in(rules: Any, endpoint: Endpoint) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the scopes of a view set's actions, and how to correct it."""
    if not isinstance(rules, Mapping):
        yield "is not a dictionary.", 'Write action_scopes = {"refund": "orders:refund"}.'
        return
    actions = ["metadata", *endpoint.actions.values()]
    for action, rule in rules.items():
        # It may be routed elsewhere, or in a project that uses the view.
        if action not in actions and not callable(getattr(endpoint.source, str(action), None)):
            yield f"names {action!r}, which is no action of the view.", nearest(str(action), actions)
        if rule is not None and scopes_named(rule) is None:
            yield (
                f"has neither a scope nor a tuple of scopes for {action!r}.",
                'Write "orders:refund" or ("orders:write", "orders:refund"); None if no key may do it.',
            )


def _resource_permissions(endpoint: Endpoint) -> Iterator[HasResourceScope]:
    return (made for made in _scope_permissions(endpoint) if isinstance(made, HasResourceScope))


def _has_keyrings(authenticator: type[KeyringAuthentication]) -> bool:
    # Without its comma, a tuple of one variable is a string, which would be read letter by letter.
    forgot_comma = isinstance(getattr(authenticator, "variables", ()), str)
    return isinstance(authenticator.keyrings, list | tuple) and bool(authenticator.keyrings) and not forgot_comma


def _scopes_of(endpoint: Endpoint) -> list[Any]:
    """Return the values that a view requires as scopes; unchecked, so of any type."""
    made = [permission for permission in _scope_permissions(endpoint) if isinstance(permission, HasScope)]
    asked = [scopes or () for permission in made for scopes in endpoint.asked_by(permission).values()]
    return [*endpoint.guard_scopes, *chain.from_iterable(asked)]


def _scope_permissions(endpoint: Endpoint) -> list[BasePermission | Exception]:
    """Return the permissions that require scopes, instantiated as for a request, or the exception this raises."""
    made: list[BasePermission | Exception] = []
    for permission in endpoint.permissions:
        if isinstance(permission, type) and issubclass(permission, HasScope):
            try:
                made.append(permission())  # type: ignore[arg-type]
            except Exception as error:
                made.append(error)
    return made


def once_for_each_view(messages: Iterable[checks.CheckMessage]) -> list[checks.CheckMessage]:
    """Drop messages that repeat for a view's other addresses."""
    said: dict[tuple[int, str], checks.CheckMessage] = {}
    for message in messages:
        said.setdefault((id(message.obj.source), message.msg), message)
    return list(said.values())
