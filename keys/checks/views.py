"""Checks of what views require: their scopes are registered, and their keyrings exist."""

from collections.abc import Iterable
from typing import Any

from django.core import checks
from rest_framework.permissions import BasePermission

from ..authentication import KeyringAuthentication
from ..endpoints import Endpoint, endpoints
from ..permissions import HasScope
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


def _has_keyrings(authenticator: type[KeyringAuthentication]) -> bool:
    # Without its comma, a tuple of one variable is a string, which would be read letter by letter.
    forgot_comma = isinstance(getattr(authenticator, "variables", ()), str)
    return isinstance(authenticator.keyrings, list | tuple) and bool(authenticator.keyrings) and not forgot_comma


def _scopes_of(endpoint: Endpoint) -> list[Any]:
    """Return the values that a view requires as scopes; unchecked, so of any type."""
    asked = [scope for made in _scope_permissions(endpoint) if isinstance(made, HasScope) for scope in made.scopes]
    return [*endpoint.guard_scopes, *asked]


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
