"""Which guards a view will ask, told before it runs: from what it declares, and from what its requests have shown."""

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from django.http import HttpRequest
from django.views import View
from rest_framework.views import APIView

from ..endpoints import guard_of, innermost, operations_of
from ..verification import Guard

logger = logging.getLogger("api_keys")

# Only these are remembered: a client may send any method, and a view may make guards without end.
_METHODS = {method.upper() for method in View.http_method_names}
_MOST_GUARDS = 8

_REMEDY = (
    "Name the guard in authentication_classes, or by api_key_required on the view itself, or let the view begin its "
    "transactions itself (transaction.non_atomic_requests)."
)

ForRequest = Callable[[HttpRequest, Any, Any], Sequence[Any]]


@dataclass(slots=True, eq=False)
class Foresight:
    """What is known of one view. A guard is None if it is an authenticator of another kind."""

    name: str = ""
    declared: Sequence[Guard | None] = ()
    # The class and its `authentication_classes`, if `declared` is read from there.
    view_class: Any = None
    classes: Any = None
    # Returns the authenticators of a view that chooses them for each request.
    choose: ForRequest | None = None
    # By method, the guards that earlier requests were asked by, and the methods on which that was not always so.
    learnt: dict[str, list[Guard]] = field(default_factory=dict)
    unsteady: set[str] = field(default_factory=set)
    is_told: bool = False

    def chosen(self, choose: ForRequest, request: HttpRequest, args: Any, kwargs: Any) -> Sequence[Guard | None]:
        """Return the guards that `choose` names for this request, as far as that can be foreseen."""
        try:
            return [guard_of(authenticator) for authenticator in choose(request, args, kwargs)]
        except Exception:
            # It is the project's code, which may need what only the view itself prepares.
            return ()

    def was_late(self, method: str, guard: Guard, can_learn: bool) -> None:
        """Tell once, and learn, that a key was asked for within the view's transaction. See `decisions.Foresight`."""
        can_learn = can_learn and method in _METHODS and method not in self.unsteady
        if can_learn:
            guards = self.learnt.setdefault(method, [])
            if guard not in guards and len(guards) < _MOST_GUARDS:
                guards.append(guard)
        if not self.is_told:
            self.is_told = True
            logger.warning(
                "The view %s asked for an API key in its own transaction: had the worker died, the use would have left "
                "no row. %s %s",
                self.name,
                "This process verifies the next ones before the view." if can_learn else "That stays so.",
                _REMEDY,
            )

    def was_wrong(self, method: str, guard: Guard) -> None:
        """Forget a guard that the view did not ask although a key was there, and do not learn it again."""
        self.unsteady.add(method)
        if self.learnt.pop(method, None):
            logger.warning(
                "The view %s does not ask for an API key on each %s: from now on this process verifies it in the "
                "view's own transaction. %s",
                self.name,
                method,
                _REMEDY,
            )


# By the view's function, or by its type if it cannot be a key. Each process learns by itself.
_known: WeakKeyDictionary[Any, Foresight] = WeakKeyDictionary()


def foresight_of(view: Any) -> Foresight:
    """Return what is known of a view. For a view that was called before, this is a look-up. Raises nothing."""
    try:
        known = _known.get(view)
    except Exception:
        view, known = type(view), _known.get(type(view))
    if known is None or (known.view_class is not None and known.view_class.authentication_classes is not known.classes):
        known = _known[view] = _look_at(view)
    return known


def _look_at(view: Any) -> Foresight:
    foresight = Foresight()
    try:
        view, given = innermost(view)
        source = getattr(view, "view_class", view)
        foresight.name = f"{source.__module__}.{getattr(source, '__qualname__', type(source).__name__)}"
        _foresee(foresight, view, given)
    except Exception as error:
        # An object in a URLconf may raise anything when it is looked at; it may still be a view.
        logger.debug("A view cannot be looked at: %s", type(error).__name__)
    return foresight


def _foresee(foresight: Foresight, view: Any, given: dict[str, Any]) -> None:
    guard = getattr(view, "api_key_guard", None)
    view_class = getattr(view, "cls", None)
    if isinstance(guard, Guard):
        foresight.declared = [guard]
    elif inspect.isclass(view_class) and issubclass(view_class, APIView):
        _foresee_framework(foresight, view, given)
    elif operations := operations_of(view):
        foresight.choose = partial(_of_operation, operations)
    elif getattr(getattr(view, "view_class", None), "dispatch", None) is View.dispatch:
        foresight.choose = partial(_of_method, view.view_class)


def _foresee_framework(foresight: Foresight, view: Any, given: dict[str, Any]) -> None:
    """Fill in what a view of Django REST framework declares, or how to ask it."""
    view_class, initial = view.cls, getattr(view, "initkwargs", {})
    actions = getattr(view, "actions", None)
    if view_class.get_authenticators is APIView.get_authenticators:
        classes = initial.get("authentication_classes")
        if classes is None:
            # Not by getattr, which would call a property of the class.
            classes = inspect.getattr_static(view_class, "authentication_classes")
            if isinstance(classes, list | tuple):
                foresight.view_class, foresight.classes = view_class, classes
        if isinstance(classes, list | tuple):
            foresight.declared = [guard_of(authenticator) for authenticator in classes]
            return
    # View sets are never set up. In other views, what it makes may decide, and it must not run twice.
    if (actions is None and view_class.setup is not View.setup) or view_class.__init__ is not View.__init__:
        return
    foresight.choose = partial(_of_instance, view_class, initial, actions, given)


def _of_instance(
    view_class: Any, initial: Any, actions: Any, given: dict[str, Any], request: HttpRequest, args: Any, kwargs: Any
) -> Sequence[Any]:
    """Return the authenticators of an instance that has what Django gives it, without the project's `setup`."""
    instance = view_class(**initial)
    if actions is not None:
        # As `as_view()` does for the first GET, but not to the view's own dictionary.
        actions = {"head": actions["get"], **actions} if "get" in actions else dict(actions)
        instance.action_map = actions
        for method, action in actions.items():
            setattr(instance, method, getattr(instance, action))
    View.setup(instance, request, *args, **{**given, **kwargs})
    authenticators: Sequence[Any] = instance.get_authenticators()
    return authenticators


def _of_operation(operations: list[Any], request: HttpRequest, args: Any, kwargs: Any) -> Sequence[Any]:
    """Return the authenticators of Django Ninja's operation for this method."""
    for operation in operations:
        if request.method in operation.methods:
            authenticators: Sequence[Any] = operation.auth_callbacks
            return authenticators
    return ()


def _of_method(view_class: Any, request: HttpRequest, args: Any, kwargs: Any) -> Sequence[Any]:
    """Return the guard of a method of Django's own class-based view, if it has one by `api_key_required`."""
    name = (request.method or "").lower()
    if name == "head" and not hasattr(view_class, name):
        name = "get"
    handler = getattr(view_class, name, None) if name in view_class.http_method_names else None
    return [handler] if isinstance(getattr(handler, "api_key_guard", None), Guard) else []
