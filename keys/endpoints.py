"""Which views there are, and what each declares about its guards."""

import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import dropwhile
from types import SimpleNamespace
from typing import Any

from django.conf import settings
from django.urls import ResolverMatch, URLPattern, URLResolver, get_resolver
from django.views import View
from rest_framework.permissions import OperandHolder, SingleOperandHolder
from rest_framework.views import APIView

from .decorators import layers_of
from .keyrings import EnvironmentKeyring, Keyring, LegacyKeyring
from .permissions import HasAPIKey, HasResourceScope, HasScope
from .verification import Guard

UNSEEN = object()  # what only a request shows


@dataclass(frozen=True)
class Endpoint:
    """A view of the URLconf, or an operation of Django Ninja, and what it declares about its guards.

    What a view decides in `get_authenticators()` or `get_permissions()` is not included. `name` is its name in the
    log, `callback` what the URLconf holds: the view with all that is around it.
    """

    route: str
    view: Any
    name: str
    callback: Any = None

    def __str__(self) -> str:
        return f"{self.name_in_code} (/{self.route})"

    @property
    def name_in_code(self) -> str:
        """The module and the name of the class or the function."""
        return f"{self.source.__module__}.{getattr(self.source, '__name__', type(self.source).__name__)}"

    @property
    def address(self) -> str:
        """The route as people write it."""
        return "/" + self.route.replace("^", "")

    @property
    def source(self) -> Any:
        """The class or the function in the code, the same for all of its addresses."""
        if self.is_operation:
            return self.view.view_func
        return getattr(self.view, "view_class", getattr(self.view, "cls", self.view))  # a view set has only `cls`

    @property
    def authenticators(self) -> list[Any]:
        """The authentication classes, or Ninja's authenticators, in order; none for a plain Django view."""
        return list(self.view.auth_callbacks if self.is_operation else _declared(self.view, "authentication_classes"))

    @property
    def permissions(self) -> list[Any]:
        """The permission classes; those joined by `&`, `|` and `~` one by one."""
        return [operand for permission in self.permission_classes for operand in _operands(permission)]

    @property
    def permission_classes(self) -> list[Any]:
        """The permission classes as the view declares them."""
        return list(_declared(self.view, "permission_classes"))

    @property
    def throttles(self) -> list[Any]:
        """The throttle classes."""
        return list(_declared(self.view, "throttle_classes"))

    @property
    def guards(self) -> list[Guard]:
        """The guards, those of the decorator before those of the authenticators."""
        return list(dict.fromkeys(self._all_guards))

    @property
    def _all_guards(self) -> list[Guard]:
        """The guards, also those that make the same decision as another."""
        decorated = [function.api_key_guard for function in self.decorations]
        return [*decorated, *(guard for guard in map(guard_of, self.authenticators) if guard is not None)]

    @property
    def acts_as_owner(self) -> bool:
        """Whether `request.user` may be the owner of the key."""
        return any(guard.acts_as_owner for guard in self._all_guards)

    @property
    def is_for_users_too(self) -> bool:
        """Whether an `api_key_required` lets users in."""
        return any(function.api_key_or_user for function in self.decorations)

    @property
    def handlers(self) -> list[Any]:
        """The methods of the view's class that answer requests."""
        view_class = getattr(self.view, "view_class", getattr(self.view, "cls", None))
        method_names = {*View.http_method_names, *(getattr(self.view, "actions", None) or {}).values()}
        return [getattr(view_class, name) for name in sorted(method_names) if hasattr(view_class, name)]

    @property
    def actions(self) -> dict[str, str]:
        """Each method that the view answers, with the action of a view set, else nothing; without OPTIONS."""
        methods = [method for method in _declared(self.view, "http_method_names") if method != "options"]
        actions = getattr(self.view, "actions", None)
        if actions is None:
            return {method.upper(): "" for method in methods if hasattr(self.source, method)}
        return {method.upper(): actions[method] for method in methods if method in actions}

    @property
    def action_scopes(self) -> Any:
        """The scopes that a view set names for its actions; `UNSEEN` if only a request shows them."""
        initial = getattr(self.view, "initkwargs", {})
        if "action_scopes" in initial:
            return initial["action_scopes"]
        declared = inspect.getattr_static(self.source, "action_scopes", {})
        return UNSEEN if hasattr(declared, "__get__") else declared

    def asked_by(self, permission: HasScope) -> dict[str, tuple[Any, ...] | None]:
        """Return the scopes that a permission asks for, by action, or by method where there are no actions."""
        if not isinstance(permission, HasResourceScope):
            return {"": permission.scopes}
        if not isinstance(self.action_scopes, Mapping):
            return {}
        view = SimpleNamespace(
            action_map={method.lower(): action for method, action in self.actions.items() if action},
            action_scopes=self.action_scopes,
        )
        return {action or method: permission.asked(method, view) for method, action in self.actions.items()}

    @property
    def guarded_methods(self) -> list[Any]:
        """The methods, other than `dispatch`, that have `api_key_required`."""
        return [function for handler in self.handlers for function in decorated(handler)]

    @property
    def guard_scopes(self) -> list[Any]:
        """The scopes that `api_key_required` or Ninja's authenticators require."""
        declared = [authenticator for authenticator in self.authenticators if guard_of(authenticator) is not None]
        return [
            *(scope for function in self.decorations for scope in function.api_key_scopes),
            *(scope for authenticator in declared for scope in getattr(authenticator, "scopes", ())),
        ]

    @property
    def keyrings(self) -> list[Keyring]:
        """The keyrings whose keys open this view."""
        return [ring for guard in self.guards for ring in guard.keyrings]

    @property
    def searched(self) -> list[Guard]:
        """The guards, and what says where the view looks for keys that its callers ask about."""
        asked = getattr(self.view, "api_key_asked", None)
        return [*self.guards, *([asked] if isinstance(asked, Guard) else [])]

    @property
    def searched_keyrings(self) -> list[Keyring]:
        """The keyrings whose keys open this view, or are asked about there."""
        return [ring for guard in self.searched for ring in guard.keyrings]

    @property
    def asks_for_a_key(self) -> bool:
        """Whether it has a guard, or a permission that requires a key."""
        return bool(self.guards) or any(_is_a(permission, (HasAPIKey, HasScope)) for permission in self.permissions)

    @property
    def is_behind_another(self) -> bool:
        """Whether an authenticator of another kind comes before the one that reads keys."""
        if isinstance(getattr(self.view, "api_key_guard", None), Guard):
            return False
        return any(dropwhile(bool, (guard_of(authenticator) is not None for authenticator in self.authenticators)))

    def is_of(self, view_class: type) -> bool:
        """Tell whether the view is of this class, or of one below it."""
        return isinstance(self.source, type) and issubclass(self.source, view_class)

    def is_property(self, attribute: str) -> bool:
        """Tell whether the view makes this attribute of `APIView` anew for each request."""
        if attribute in getattr(self.view, "initkwargs", {}) or not _is_a(self.source, (APIView,)):
            return False
        return hasattr(inspect.getattr_static(self.source, attribute), "__get__")

    def decides_by_request(self, attribute: str, method: str) -> bool:
        """Tell whether only a request shows what is in this attribute: by a property, or by the method for it."""
        return self.overrides(method) or (self.is_property(attribute) and not _declared(self.view, attribute))

    def is_in_transaction(self, alias: str) -> bool:
        """Tell whether `ATOMIC_REQUESTS` of this database puts the view into a transaction."""
        # Django asks what the URLconf holds.
        return alias not in getattr(self.callback, "_non_atomic_requests", ())

    @property
    def is_operation(self) -> bool:
        """Whether the view is an operation of Django Ninja."""
        return hasattr(self.view, "auth_callbacks")

    @property
    def decorations(self) -> list[Any]:
        return [*decorated(self.view), *self.guarded_methods]

    def overrides(self, method: str) -> bool:
        """Tell whether the view overrides this method of `APIView`."""
        source = self.source
        return _is_a(source, (APIView,)) and getattr(source, method) is not getattr(APIView, method)


def endpoints() -> list[Endpoint]:
    """Return every view of the URLconf, in the order in which Django tries their addresses."""
    return list(_walk(get_resolver(), "", [])) if getattr(settings, "ROOT_URLCONF", None) else []


def operations_of(view: Any) -> list[Any]:
    """Return the operations of a Django Ninja view, each with its own methods and authenticators; none for others."""
    library = sys.modules.get("ninja.operation")
    if library is None:
        return []
    for part in layers_of(view):
        # Ninja's object is reachable from the view in a URLconf only as a variable of its closure.
        for thing in enclosed_in(part):
            if issubclass(type(thing), library.PathView):
                return list(thing.operations)
    return []


def enclosed_in(function: Any) -> Iterator[Any]:
    """Yield the variables of a function's closure; nothing for any other object."""
    for cell in getattr(function, "__closure__", None) or ():
        with suppress(ValueError):  # an empty cell
            yield cell.cell_contents


def environment_keyrings() -> list[tuple[Endpoint, EnvironmentKeyring]]:
    """Return each keyring that reads a variable, with a view that it opens or that is asked about its keys."""
    return [
        (endpoint, ring)
        for endpoint in endpoints()
        for ring in endpoint.searched_keyrings
        if isinstance(ring, EnvironmentKeyring)
    ]


def legacy_keyrings() -> list[LegacyKeyring]:
    """Return the keyrings of the project's views that ask another system, each once."""
    found = (ring for endpoint in endpoints() for ring in endpoint.searched_keyrings)
    return list(dict.fromkeys(ring for ring in found if isinstance(ring, LegacyKeyring)))


def guard_of(authenticator: Any) -> Guard | None:
    """Return the guard of an authenticator that reads keys, or of a function that has one; None for any other."""
    guard = getattr(authenticator, "guard", None)
    if guard is None:
        guard = getattr(authenticator, "api_key_guard", None)
    return guard if isinstance(guard, Guard) else None


def innermost(view: Any) -> tuple[Any, dict[str, Any]]:
    """Return the part of a view that shows its guards, and the keyword arguments that it is given on the way there.

    Looks through `functools.partial`, decorators with `functools.wraps`, and objects with a `__call__`. If no part
    shows any, this is the view, without `partial`.
    """
    given: dict[str, Any] = {}
    while isinstance(view, partial):
        view, given = view.func, {**view.keywords, **given}
    for part in layers_of(view):
        if isinstance(part, partial):
            given = {**part.keywords, **given}
        elif any(hasattr(part, mark) for mark in ("api_key_guard", "cls", "view_class")):
            return part, given
        elif hasattr(getattr(part, "__call__", None), "api_key_guard"):  # noqa: B004  the method itself
            return part.__call__, given
    return view, given


def decorated(function: Any) -> Iterator[Any]:
    """Yield the function and those it wraps that have `api_key_required`."""
    return (part for part in layers_of(function) if isinstance(getattr(part, "api_key_guard", None), Guard))


def is_decorated(function: Any) -> bool:
    """Tell whether the function, or one that it wraps, has `api_key_required`."""
    return next(decorated(function), None) is not None


def _walk(resolver: URLResolver, prefix: str, namespaces: list[str | None]) -> Iterator[Endpoint]:
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern, route, [*namespaces, pattern.namespace])
        elif isinstance(pattern, URLPattern):
            name = ResolverMatch(pattern.callback, (), {}, pattern.name, namespaces=namespaces).view_name
            callback, _ = innermost(pattern.callback)
            for view in operations_of(callback) or [callback]:
                yield Endpoint(route, view, name, pattern.callback)


def _operands(permission: Any) -> Iterator[Any]:
    if not isinstance(permission, OperandHolder | SingleOperandHolder):
        yield permission
        return
    yield from _operands(permission.op1_class)
    if isinstance(permission, OperandHolder):
        yield from _operands(permission.op2_class)


def _declared(view: Any, attribute: str) -> Iterable[Any]:
    """Return what the view declares: an argument of `as_view()`, else the attribute of its class."""
    initial = getattr(view, "initkwargs", {}).get(attribute)
    declared = getattr(getattr(view, "cls", None), attribute, ()) if initial is None else initial
    return declared if hasattr(declared, "__iter__") else ()


def _is_a(thing: Any, classes: tuple[type, ...]) -> bool:
    """Tell whether it is one of the classes or an instance of one: a permission may be either."""
    return isinstance(thing, classes) or (isinstance(thing, type) and issubclass(thing, classes))
