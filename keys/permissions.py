"""Permissions for Django REST framework: any good key, a key with given scopes, or a user."""

from collections.abc import Iterator, Mapping
from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework.permissions import (
    AND,
    NOT,
    OR,
    SAFE_METHODS,
    BasePermission,
    BasePermissionMetaclass,
    OperandHolder,
    OperationHolderMixin,
    SingleOperandHolder,
)
from rest_framework.request import Request

from . import denials
from .scopes import first_missing
from .verification import Reason, holder_of, is_from_person, lacking


class HasAPIKey(BasePermission):
    """Allows requests with a good key, whatever its scopes."""

    message = _("This endpoint needs an API key.")

    def has_permission(self, request: Request, view: Any) -> bool:
        return holder_of(request) is not None

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        return self.has_permission(request, view)


class IsUser(BasePermission):
    """Allows requests of somebody who is logged in, and of no key, also none that acts as its owner.

    `permission_classes = [IsUser | HasScope("orders:read")]` is for users, and for services with the scope.
    """

    message = _("This endpoint is for users.")

    def has_permission(self, request: Request, view: Any) -> bool:
        return is_from_person(request)

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        return self.has_permission(request, view)


class _Or(OR):
    """Forgets what one half noted if the other allows the request."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return self._allowed(super().has_permission(request, view), request)

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        return self._allowed(super().has_object_permission(request, view, obj), request)

    def _allowed(self, is_allowed: bool, request: Request) -> bool:
        if is_allowed:
            denials.forget(request)
        return is_allowed


class _Not(NOT):
    """Notes a denial if the request is denied for a scope that its key holds."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return self._noted(super().has_permission(request, view), request, view)

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        return self._noted(super().has_object_permission(request, view, obj), request, view)

    def _noted(self, is_allowed: bool, request: Request, view: Any) -> bool:
        if not is_allowed and any(permission.is_met_by(request, view) for permission in _scopes_in(self)):
            denials.note(request, view, Reason.SCOPE)
        else:
            denials.forget(request)
        return is_allowed


def _scopes_in(permission: Any) -> Iterator["HasScope"]:
    """Yield each HasScope of a composition."""
    if isinstance(permission, HasScope):
        yield permission
    for half in (getattr(permission, "op1", None), getattr(permission, "op2", None)):
        if half is not None:
            yield from _scopes_in(half)


class _Composable(OperationHolderMixin):
    """Composes as Django REST framework does, by operators that know which denial decides."""

    def __and__(self, other: Any) -> Any:
        return _pair(AND, self, other)

    def __or__(self, other: Any) -> Any:
        return _pair(_Or, self, other)

    def __rand__(self, other: Any) -> Any:
        return _pair(AND, other, self)

    def __ror__(self, other: Any) -> Any:
        return _pair(_Or, other, self)

    def __invert__(self) -> Any:
        operator: Any = _Not
        this: Any = self
        return _Inverse(operator, this)


class _Pair(_Composable, OperandHolder):
    pass


class _Inverse(_Composable, SingleOperandHolder):
    pass


def _pair(operator: Any, first: Any, second: Any) -> _Pair:
    return _Pair(operator, first, second)


_DECISIONS = ("has_permission", "has_object_permission")


class _ComposableClass(_Composable, BasePermissionMetaclass):
    """Makes `~HasScope(...)` a HasScope too, so that it notes its denials itself."""

    def __invert__(self: Any) -> Any:
        # What a subclass decides in its own methods is turned round as a whole.
        if any(getattr(self, name) is not getattr(HasScope, name) for name in _DECISIONS):
            return super().__invert__()
        return type(self.__name__, (self,), {"is_inverted": not self.is_inverted})


class HasScope(BasePermission, metaclass=_ComposableClass):
    """Allows requests whose key holds all the scopes: `permission_classes = [HasScope("users:read")]`.

    A refusal names the missing scope. Works with `&`, `|` and `~`, and for objects.
    """

    scopes: tuple[str, ...] = ()
    is_inverted = False
    message: str | None = None

    def __new__(cls, *scopes: str) -> type[BasePermission]:  # type: ignore[misc]
        """With scopes, return a permission class that requires them; Django REST framework instantiates it."""
        if scopes:
            return type(cls.__name__, (cls,), {"scopes": scopes})
        if not cls.scopes:
            raise TypeError('HasScope() needs at least one scope, such as HasScope("users:read").')
        return super().__new__(cls)  # type: ignore[return-value]

    def asked(self, method: str | None, view: Any) -> tuple[str, ...] | None:
        """Return the scopes that this method of the view asks for; None if no rule says which, and nobody may."""
        return self.scopes

    def has_permission(self, request: Request, view: Any) -> bool:
        holder, scopes = holder_of(request), self.asked(request.method, view)
        if holder is None:
            return self.is_inverted and scopes is not None
        missing = None if scopes is None else first_missing(holder.scopes, scopes)
        if scopes is not None and (missing is None) is not self.is_inverted:
            return True
        if missing is not None:
            self.message = lacking(missing)
        denials.note(request, view, Reason.SCOPE)
        return False

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        return self.has_permission(request, view)

    def is_met_by(self, request: Request, view: Any) -> bool:
        """Tell whether the request has a key that the permission allows."""
        holder, scopes = holder_of(request), self.asked(request.method, view)
        if holder is None or scopes is None:
            return False
        return (first_missing(holder.scopes, scopes) is None) is not self.is_inverted


class HasResourceScope(HasScope):
    """Allows requests whose key holds the scope of the operation: `permission_classes = [HasResourceScope("orders")]`.

    `orders:read` is asked for on GET, HEAD and OPTIONS, `orders:write` on any other method. A view set may name the
    scopes of actions: `action_scopes = {"refund": "orders:refund"}`, or several in a tuple, which are all asked for.
    `HasResourceScope` without a resource goes by `action_scopes` alone: no key may do what is not named there.
    """

    resource = ""

    def __new__(cls, resource: str = "") -> type[BasePermission]:  # type: ignore[misc]
        """With a resource, return a permission class for it; Django REST framework instantiates it."""
        if resource:
            return type(cls.__name__, (cls,), {"resource": resource})
        return BasePermission.__new__(cls)  # type: ignore[return-value]

    def asked(self, method: str | None, view: Any) -> tuple[str, ...] | None:
        action = action_of(method, view)
        rules = getattr(view, "action_scopes", {})
        if not isinstance(rules, Mapping):
            return None
        if action in rules:
            return scopes_named(rules[action])
        if not self.resource:
            return None
        return (f"{self.resource}:{'read' if method in SAFE_METHODS else 'write'}",)


def action_of(method: str | None, view: Any) -> str | None:
    """Return the action of a view set that answers this method; None where there is none, as in other views.

    By the method of the request that is judged, as forms and metadata are made for other methods than the view's.
    """
    if method == "OPTIONS":
        return "metadata"
    actions: Mapping[str, str] = getattr(view, "action_map", None) or {}
    return actions.get((method or "").lower())


def scopes_named(rule: Any) -> tuple[str, ...] | None:
    """Return the scopes of a rule in `action_scopes`; None if it names none, so that a mistake opens nothing."""
    scopes = (rule,) if isinstance(rule, str) else rule
    is_list = isinstance(scopes, list | tuple) and scopes and all(isinstance(scope, str) for scope in scopes)
    return tuple(scopes) if is_list else None
