"""OpenAPI by drf-spectacular: how each operation's key is sent, the scopes it needs, and the answers of a refusal.

The schemes are registered if `drf_spectacular` is in `INSTALLED_APPS`. Scopes and answers are added by
`REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "keys.schema.AutoSchema"}`.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular import openapi
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.plumbing import ResolvedComponent
from rest_framework.permissions import AND, NOT, OR

from .authentication import APIKeyAuthentication, KeyringAuthentication
from .credentials import BASIC
from .endpoints import decorated
from .keyrings import DatabaseKeyring
from .permissions import HasAPIKey, HasScope, IsUser
from .throttling import APIKeyRateThrottle
from .verification import Guard


class KeyringScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Gives each authentication class its own schemes, as different keys open what they guard.

    There is one for each header and for each keyword in `Authorization`; any of them is enough. The first header's is
    named after the class, the first keyword's `…InAuthorization`, and the others after their header or keyword, too.
    """

    target_class = KeyringAuthentication
    match_subclasses = True

    @property
    def name(self) -> list[str]:  # type: ignore[override]
        return [*self._schemes]

    def get_security_requirement(self, auto_schema: openapi.AutoSchema) -> list[dict[str, list[Any]]]:
        return [{name: []} for name in self._schemes]

    def get_security_definition(self, auto_schema: openapi.AutoSchema) -> list[dict[str, Any]]:
        return [*self._schemes.values()]

    @property
    def _schemes(self) -> dict[str, dict[str, Any]]:
        named, wanted = type(self.target).__name__, self.target.guard.wanted
        headers = {
            f"{named}In-{_component(header)}" if number else named: {"type": "apiKey", "in": "header", "name": header}
            for number, header in enumerate(wanted.headers)
        }
        # Guards of decorators that share their first header may differ in all keywords.
        first = "Api-Key" if isinstance(self.target, _Decorating) else next(iter(wanted.keywords), "")
        keywords = {
            f"{named}InAuthorization" + ("" if keyword == first else f"-{_component(keyword)}"): _after(keyword)
            for keyword in wanted.keywords
        }
        return {**headers, **keywords}


def _component(name: str) -> str:
    """Return the name of a header or a keyword as a part of a component's, which takes fewer characters."""
    return re.sub(r"[^A-Za-z0-9.-]", lambda found: f"_{ord(found[0]):x}", name)


def _after(keyword: str) -> dict[str, Any]:
    # An "http" scheme has to be a registered one.
    if (scheme := keyword.lower()) in {BASIC, "bearer"}:
        words = _("An API key as the password. The user is ignored.") if scheme == BASIC else _("An API key.")
        return {"type": "http", "scheme": scheme, "description": words}
    words = _("An API key after the word “%(keyword)s” and a blank.") % {"keyword": keyword}
    return {"type": "apiKey", "in": "header", "name": "Authorization", "description": words}


class _Decorating(KeyringAuthentication):
    """Stands for an `api_key_required`."""


@dataclass(frozen=True)
class Decoration:
    """What one `api_key_required` requires."""

    guard: Guard
    scopes: tuple[str, ...]

    @property
    def authenticator(self) -> KeyringAuthentication:
        """An authenticator that reads the same keys; unless it is the default, its class is named after the header."""
        if self.guard == APIKeyAuthentication.guard:
            return APIKeyAuthentication()
        reads = {name: getattr(self.guard, name) for name in ("header", "keyword", "keyrings")}
        made: KeyringAuthentication = type(_component(self.guard.wanted.headers[0]), (_Decorating,), reads)()
        return made


class AutoSchema(openapi.AutoSchema):
    """drf-spectacular's schema of an operation, plus its guard's scopes and refusals.

    What a view declares itself, e.g. with `@extend_schema`, is not changed.
    """

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation: dict[str, Any] | None = super().get_operation(*args, **kwargs)
        guards = [one.guard for one in self.view.get_authenticators() if isinstance(one, KeyringAuthentication)]
        guards += [decoration.guard for decoration in self._decorations]
        rings = [ring for guard in guards for ring in guard.keyrings]
        if operation is None or not rings:
            return operation
        named = [f"`{scope}`" for decoration in self._decorations for scope in decoration.scopes]
        permissions = self.view.get_permissions()
        if scopes := _joined([*named, scopes_asked(permissions, self.method, self.view)], _(" and ")):
            words = _("Scope of the API key: %(scopes)s.") % {"scopes": scopes}
            if not self._decorations and are_for_users(permissions):
                words += " " + _("A user needs none.")
            operation["description"] = "\n\n".join(filter(None, [operation.get("description"), words]))
        throttled = any(isinstance(throttle, APIKeyRateThrottle) for throttle in self.view.get_throttles())
        # Only keys from the database have a rate.
        has_rates = throttled and any(isinstance(ring, DatabaseKeyring) for ring in rings)
        for status, answer in self._refusals(asks_for_scopes=bool(scopes), has_rates=has_rates):
            operation["responses"].setdefault(status, answer)
        return operation

    def get_auth(self) -> list[dict[str, list[Any]]]:
        """Return the alternatives that open the operation; each must include the guard around the view, if any."""
        ways: list[dict[str, list[Any]]] = super().get_auth()
        for decoration in self._decorations:
            scheme = KeyringScheme(decoration.authenticator)  # type: ignore[no-untyped-call]
            for name, definition in zip(scheme.name, scheme.get_security_definition(self), strict=False):
                kind = ResolvedComponent.SECURITY_SCHEMA
                component = ResolvedComponent(name=name, type=kind, object=name, schema=definition)  # type: ignore[no-untyped-call]
                self.registry.register_on_missing(component)
            keys = scheme.get_security_requirement(self)
            ways = [
                {**way, **key}
                for way in ways or [{}]
                for key in ([{}] if any(key.items() <= way.items() for key in keys) else keys)
            ]
        return [way for number, way in enumerate(ways) if way not in ways[:number]]

    @property
    def _decorations(self) -> list["Decoration"]:
        """What `api_key_required` requires around the view, on its `dispatch`, and on the method."""
        handler = getattr(self.view, getattr(self.view, "action", None) or self.method.lower(), None)
        functions = [getattr(self.view, "api_key_view", None), type(self.view).dispatch, handler]
        found = [function for outer in functions for function in decorated(outer)]
        return list(dict.fromkeys(Decoration(one.api_key_guard, one.api_key_scopes) for one in found))

    def _refusals(self, *, asks_for_scopes: bool, has_rates: bool) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the status and the answer of each refusal."""
        detail = ResolvedComponent(  # type: ignore[no-untyped-call]
            name="APIKeyRefusal",
            type=ResolvedComponent.SCHEMA,
            object="APIKeyRefusal",
            schema={"type": "object", "properties": {"detail": {"type": "string"}}, "required": ["detail"]},
        )
        self.registry.register_on_missing(detail)
        content = {"application/json": {"schema": detail.ref}}
        # Without content: the view's own answer to a bad request may look different.
        yield "400", {"description": _("More than one API key, or a request that is not valid.")}
        yield "401", {"description": _("No API key, or one that is refused."), "content": content}
        if asks_for_scopes:
            yield "403", {"description": _("The API key lacks a scope."), "content": content}
        if has_rates:
            after = {"description": _("In how many seconds to try again."), "schema": {"type": "integer"}}
            words = _("The API key is used more often than its rate allows.")
            yield "429", {"description": words, "headers": {"Retry-After": after}, "content": content}
        words = _("API keys cannot be checked right now, or none is configured.")
        yield "503", {"description": words, "content": content}


def scopes_asked(permissions: Iterable[Any], method: str, view: Any) -> str:
    """Return what this method of the view requires, in words such as “`users:read` or `users:write`”; empty if nothing.

    A view set is one whose `action_map` has the method's action.
    """

    def words(permission: Any) -> str:
        kind = type(permission)
        if isinstance(permission, HasScope):
            said = _joined([f"`{scope}`" for scope in permission.asked(method, view) or ()], _(" and "))
            return _("not ") + _in_brackets(said) if said and permission.is_inverted else said
        if issubclass(kind, AND):
            return _joined([words(permission.op1), words(permission.op2)], _(" and "))
        if issubclass(kind, NOT):
            return _("not ") + _in_brackets(said) if (said := words(permission.op1)) else ""
        if issubclass(kind, OR):
            halves = [permission.op1, permission.op2]
            for half, other in (halves, halves[::-1]):
                if _is_for_users_alone(half):
                    return words(other)
            # If one half requires no scope, name it, so that the other's scope does not look required.
            named = [words(half) or type(half).__name__ for half in halves]
            return _joined(named, _(" or ")) if any(map(words, halves)) else ""
        return ""

    return _joined([words(permission) for permission in permissions], _(" and "))


def _is_for_users_alone(permission: Any) -> bool:
    """Tell whether no key passes, whatever its scopes."""
    if issubclass(type(permission), AND):
        return _is_for_users_alone(permission.op1) or _is_for_users_alone(permission.op2)
    return isinstance(permission, IsUser)


def are_for_users(permissions: Iterable[Any]) -> bool:
    """Tell whether the permissions name users, and let them in without a key as far as that can be told."""

    def may(permission: Any) -> bool | None:
        """Return whether a user may, or None where the permission says nothing of users or keys."""
        kind, answers = type(permission), list[bool | None]()
        if isinstance(permission, IsUser):
            return True
        if isinstance(permission, (HasScope, HasAPIKey)):  # no union: its class has a `|` of its own
            return None if getattr(permission, "is_inverted", False) else False
        if issubclass(kind, AND | OR):
            answers = [may(permission.op1), may(permission.op2)]
        if issubclass(kind, NOT):
            return False if may(permission.op1) else None
        if issubclass(kind, OR):
            return True if True in answers else None if None in answers else False
        return False if False in answers else True if True in answers else None

    answers = [may(permission) for permission in permissions]
    return True in answers and False not in answers


def _joined(parts: list[str], conjunction: str) -> str:
    said = [part for part in dict.fromkeys(parts) if part]
    return said[0] if len(said) == 1 else conjunction.join(map(_in_brackets, said))


def _in_brackets(words: str) -> str:
    return f"({words})" if " " in words else words
