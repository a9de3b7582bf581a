"""Checks of who gets what: keys without scopes into views, keys past the login page, and answers out of caches."""

from enum import Enum
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.middleware.cache import CacheMiddleware
from rest_framework import permissions
from rest_framework.permissions import AND, NOT, OR, OperandHolder, SingleOperandHolder
from rest_framework.views import APIView

from ..authentication import KeyringAuthentication, is_user
from ..endpoints import Endpoint, enclosed_in, endpoints, is_decorated
from ..models import owners
from ..permissions import HasAPIKey, HasScope, IsUser
from .code import views_hidden_in
from .transactions import middlewares
from .views import once_for_each_view


@checks.register("keys")
def check_keys_without_scopes(**kwargs: object) -> list[checks.CheckMessage]:
    return once_for_each_view(
        checks.Warning(
            "A key without any scope can enter this view.",
            hint='Ask for a scope, HasScope("orders:read"), and let users in by IsUser | HasScope("orders:read"), as '
            "IsAuthenticated is true for keys. If every key may enter, say so by HasAPIKey.",
            obj=endpoint,
            id="keys.W015",
        )
        for endpoint in endpoints()
        if _reads_keys_without_scopes(endpoint) and _entrance(endpoint) is Entrance.OPEN
    )


@checks.register("keys")
def check_owners_of_keys_without_scopes(**kwargs: object) -> list[checks.CheckMessage]:
    return once_for_each_view(
        checks.Warning(
            "A key without any scope can enter this view by the permissions of the owner that it acts as.",
            hint="A superuser's key may all that the view allows. Ask for a scope too: "
            'permission_classes = [HasScope("orders:write"), DjangoModelPermissions].',
            obj=endpoint,
            id="keys.W030",
        )
        for endpoint in endpoints()
        if _reads_keys_without_scopes(endpoint) and _entrance(endpoint) is Entrance.BY_OWNER
    )


@checks.register("keys")
def check_owners_may_be_users(**kwargs: object) -> list[checks.CheckMessage]:
    try:
        if any(map(is_user, owners.models().values())):
            return []
    except ImproperlyConfigured:
        return []  # E025 says so
    return once_for_each_view(
        checks.Warning(
            'The keys of this view are to act as their owners, and KEYS["OWNERS"] names no model of users.',
            hint=f'Name it, "OWNERS": ["{settings.AUTH_USER_MODEL}"], or take acts_as_owner away.',
            obj=endpoint,
            id="keys.W031",
        )
        for endpoint in endpoints()
        if endpoint.acts_as_owner
    )


@checks.register("keys")
def check_users_are_let_in_by_plain_views(**kwargs: object) -> list[checks.CheckMessage]:
    return once_for_each_view(
        checks.Warning(
            "api_key_required(or_user=True) is around a view of Django REST framework, which then asks once more who "
            "it is.",
            hint="Write authentication_classes = [SessionAuthentication, APIKeyAuthentication] and "
            'permission_classes = [IsUser | HasScope("orders:read")] instead.',
            obj=endpoint,
            id="keys.W032",
        )
        for endpoint in endpoints()
        if endpoint.is_for_users_too and isinstance(endpoint.source, type) and issubclass(endpoint.source, APIView)
    )


@checks.register("keys")
def check_keys_are_not_sent_to_the_login_page(**kwargs: object) -> list[checks.CheckMessage]:
    if not any(_requires_login(middleware) for _, middleware in middlewares()):
        return []
    return once_for_each_view(
        checks.Warning(
            "LoginRequiredMiddleware sends the keys of this view to the login page, without a row in the audit log.",
            hint='Write @method_decorator(api_key_required(...), name="dispatch"), or put '
            "django.contrib.auth.decorators.login_not_required around what stands in the URLconf. Then nobody has to "
            "log in for what else the view does.",
            obj=endpoint,
            id="keys.W016",
        )
        for endpoint in endpoints()
        if getattr(endpoint.callback, "login_required", True) and _is_guarded(endpoint)
    )


@checks.register("keys")
def check_answers_are_not_cached(**kwargs: object) -> list[checks.CheckMessage]:
    return once_for_each_view(
        checks.Warning(
            "cache_page on a handler of this view gives the answer to one key to others.",
            hint="The view is one of Django REST framework with api_key_required around it. Name APIKeyAuthentication "
            "in its authentication_classes instead, or take cache_page away.",
            obj=endpoint,
            id="keys.W017",
        )
        for endpoint in endpoints()
        if isinstance(endpoint.source, type) and issubclass(endpoint.source, APIView)
        if is_decorated(endpoint.view) and not any(map(_reads_keys, endpoint.authenticators))
        if any(_is_cached(handler) for handler in endpoint.handlers)
    )


class Entrance(Enum):
    """What a permission means for a key without any scope."""

    CLOSED = "it is kept out"
    OPEN = "it is let in"
    MEANT = "it is let in, and the view says so"
    BY_OWNER = "it is let in if its owner is, as whom it acts"
    UNKNOWN = "only the project's code tells"


# By the method that decides, so that subclasses that do not override it are known, too.
_KNOWN: dict[Any, Entrance] = {
    HasAPIKey.has_permission: Entrance.MEANT,
    IsUser.has_permission: Entrance.CLOSED,
    permissions.BasePermission.has_permission: Entrance.OPEN,
    permissions.AllowAny.has_permission: Entrance.OPEN,
    permissions.IsAuthenticated.has_permission: Entrance.OPEN,
    permissions.IsAuthenticatedOrReadOnly.has_permission: Entrance.OPEN,
}
# What a service never passes, and an owner may.
_OF_USERS = {permissions.IsAdminUser.has_permission, permissions.DjangoModelPermissions.has_permission}
_OF_OBJECTS = {
    permission.has_object_permission
    for permission in (permissions.BasePermission, permissions.DjangoObjectPermissions, HasAPIKey, HasScope, IsUser)
}


def _reads_keys_without_scopes(endpoint: Endpoint) -> bool:
    """Tell whether it is a view of Django REST framework that accepts keys which may have no scope."""
    if is_decorated(endpoint.view):
        return False  # api_key_required names its scopes, or none
    declared = [one.keyrings for one in endpoint.authenticators if _reads_keys(one)]
    rings = [ring for rings in declared if isinstance(rings, list | tuple) for ring in rings]
    # The keys of a variable have the scopes that the code gives them.
    return any(not getattr(ring, "scopes", ()) for ring in rings)


def _reads_keys(authenticator: Any) -> bool:
    return isinstance(authenticator, type) and issubclass(authenticator, KeyringAuthentication)


def _entrance(endpoint: Endpoint) -> Entrance:
    # Such as the list of addresses that a router serves: nothing but links.
    holds_nothing = getattr(endpoint.source, "_ignore_model_permissions", False)
    is_decided_elsewhere = endpoint.overrides("check_permissions") or endpoint.overrides("initial")
    if holds_nothing or is_decided_elsewhere or endpoint.decides_by_request("permission_classes", "get_permissions"):
        return Entrance.UNKNOWN
    return _all([_of_permission(permission, endpoint.acts_as_owner) for permission in endpoint.permission_classes])


def _of_permission(permission: Any, acts_as_owner: bool) -> Entrance:
    operator: Any = getattr(permission, "operator_class", None)
    if isinstance(permission, SingleOperandHolder) and issubclass(operator, NOT):
        return _turned_round(_of_permission(permission.op1_class, acts_as_owner))
    if isinstance(permission, OperandHolder) and issubclass(operator, AND | OR):
        join = _all if issubclass(operator, AND) else _any
        halves = [permission.op1_class, permission.op2_class]
        return join([_of_permission(half, acts_as_owner) for half in halves])
    if not isinstance(permission, type):
        return Entrance.UNKNOWN
    if issubclass(permission, HasScope) and permission.has_permission is HasScope.has_permission:
        return Entrance.OPEN if permission.is_inverted else Entrance.CLOSED
    decides = getattr(permission, "has_permission", None)
    if decides in _OF_USERS:
        return Entrance.BY_OWNER if acts_as_owner else Entrance.CLOSED
    found = _KNOWN.get(decides, Entrance.UNKNOWN)
    is_only_for_views = getattr(permission, "has_object_permission", None) in _OF_OBJECTS
    return Entrance.UNKNOWN if found is Entrance.OPEN and not is_only_for_views else found


def _all(halves: list[Entrance]) -> Entrance:
    return _first_of(halves, Entrance.CLOSED, Entrance.MEANT, Entrance.UNKNOWN, Entrance.BY_OWNER) or Entrance.OPEN


def _any(halves: list[Entrance]) -> Entrance:
    return _first_of(halves, Entrance.MEANT, Entrance.OPEN, Entrance.BY_OWNER, Entrance.UNKNOWN) or Entrance.CLOSED


def _first_of(halves: list[Entrance], *order: Entrance) -> Entrance | None:
    return next((entrance for entrance in order if entrance in halves), None)


def _turned_round(half: Entrance) -> Entrance:
    if half in {Entrance.UNKNOWN, Entrance.BY_OWNER}:
        return half
    return Entrance.OPEN if half is Entrance.CLOSED else Entrance.CLOSED


def _requires_login(middleware: Any) -> bool:
    """Tell whether it is Django's middleware or one made from it, which cannot be imported in every project."""
    classes = middleware.__mro__ if isinstance(middleware, type) else ()
    return any(
        (each.__module__, each.__name__) == ("django.contrib.auth.middleware", "LoginRequiredMiddleware")
        for each in classes
    )


def _is_guarded(endpoint: Endpoint) -> bool:
    """Tell whether a key guards the view, also where the guard is hidden: by a partial, a decorator, or a dispatch."""
    source = endpoint.source
    if not isinstance(source, type):
        return bool(endpoint.guards) or is_decorated(source) or bool(views_hidden_in(source))
    readers = getattr(source, "authentication_classes", ())
    is_of_the_framework = isinstance(readers, list | tuple) and any(map(_reads_keys, readers))
    dispatches = (vars(each).get("dispatch") for each in source.__mro__)
    return bool(endpoint.guards) or is_of_the_framework or any(map(is_decorated, dispatches))


def _is_cached(part: Any, depth: int = 5) -> bool:
    """Tell whether `cache_page` is in a handler: its decorators are variables of closures, in lists or not."""
    if part is CacheMiddleware or isinstance(part, CacheMiddleware):
        return True
    if depth == 0:
        return False
    wrapped = part if isinstance(part, list | tuple) else [getattr(part, "__wrapped__", None)]
    inner = [*wrapped, *enclosed_in(part)]
    return any(_is_cached(each, depth - 1) for each in inner if callable(each) or isinstance(each, list | tuple))
