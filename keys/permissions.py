"""Permissions for Django REST framework, by key and by scope."""

from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework.permissions import BasePermission, BasePermissionMetaclass
from rest_framework.request import Request

from .keyrings import EnvironmentKey
from .models import APIKey
from .scopes import grants
from .verification import Reason, objecting


class HasAPIKey(BasePermission):
    """Allows requests that came with a good key, whatever its scopes."""

    message = _("This endpoint needs an API key.")

    def has_permission(self, request: Request, view: Any) -> bool:
        return isinstance(request.auth, APIKey | EnvironmentKey)

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        return self.has_permission(request, view)


class _Invertible(BasePermissionMetaclass):
    """Makes `~HasScope(...)` a HasScope too, which can tell the audit log why it refused: `NOT` tells nobody."""

    def __invert__(self: Any) -> type[BasePermission]:  # type: ignore[override]
        return type(self.__name__, (self,), {"is_inverted": not self.is_inverted})


class HasScope(BasePermission, metaclass=_Invertible):
    """Allows requests whose key holds every one of the scopes: `permission_classes = [HasScope("users:read")]`.

    Where it says no, the answer names the scope that is missing. Composes with `&`, `|` and `~`, on objects too.
    """

    scopes: tuple[str, ...] = ()
    is_inverted = False
    message: str | None = None

    def __new__(cls, *scopes: str) -> type[BasePermission]:  # type: ignore[misc]
        """With scopes, return a permission class that asks for them; Django REST framework makes its instances."""
        if scopes:
            return type(cls.__name__, (cls,), {"scopes": scopes})
        if not cls.scopes:
            raise TypeError('HasScope() needs at least one scope, such as HasScope("users:read").')
        return super().__new__(cls)  # type: ignore[return-value]

    def has_permission(self, request: Request, view: Any) -> bool:
        holder = request.auth
        if not isinstance(holder, APIKey | EnvironmentKey):
            return self.is_inverted
        missing = next((scope for scope in self.scopes if not grants(holder.scopes, scope)), None)
        is_allowed = (missing is None) is not self.is_inverted
        if not (is_allowed or self.is_inverted):
            self.message = _("This API key lacks the scope “%(scope)s”.") % {"scope": missing}
        # Kept for the audit log. One half of `A | B` may object and the other let in: the answer's status decides.
        objecting(request._request, Reason.NONE if is_allowed else Reason.SCOPE)
        return is_allowed

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        return self.has_permission(request, view)
