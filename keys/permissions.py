"""Permissions for Django REST framework: any good key, or a key with given scopes."""

from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework.permissions import BasePermission, BasePermissionMetaclass
from rest_framework.request import Request

from .keyrings import EnvironmentKey
from .models import APIKey
from .scopes import first_missing
from .verification import Reason, note_denial, scope_denial


class HasAPIKey(BasePermission):
    """Allows requests with a good key, whatever its scopes."""

    message = _("This endpoint needs an API key.")

    def has_permission(self, request: Request, view: Any) -> bool:
        return isinstance(request.auth, APIKey | EnvironmentKey)

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        return self.has_permission(request, view)


class _Invertible(BasePermissionMetaclass):
    """Makes `~HasScope(...)` a HasScope too, so that it can report its reason to the audit log, as `NOT` cannot."""

    def __invert__(self: Any) -> type[BasePermission]:  # type: ignore[override]
        return type(self.__name__, (self,), {"is_inverted": not self.is_inverted})


class HasScope(BasePermission, metaclass=_Invertible):
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

    def has_permission(self, request: Request, view: Any) -> bool:
        holder = request.auth
        if not isinstance(holder, APIKey | EnvironmentKey):
            return self.is_inverted
        # Note the result for the audit log in both cases. In `A | B` one may refuse and the other accept: the status of
        # the answer decides.
        if self.is_inverted:
            is_allowed = first_missing(holder.scopes, self.scopes) is not None
            note_denial(request._request, Reason.NONE if is_allowed else Reason.SCOPE)
            return is_allowed
        self.message = scope_denial(request._request, holder, self.scopes) or None
        return self.message is None

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        return self.has_permission(request, view)
