"""What the code of a view names: guards, and other views that it may call. Read from the code, which is not run."""

import dis
import inspect
from collections.abc import Iterable, Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

from django.views import View
from rest_framework.views import APIView

from ..endpoints import Endpoint, enclosed_in, guard_of
from ..verification import Guard

# Code of these packages calls no view of the project.
_LIBRARIES = ("django.", "rest_framework.", "keys.")


def guards_named_in(function: Any) -> list[Guard]:
    """Return the guards of the authentication classes that a function or property names."""
    found = [guard_of(thing) for thing in _named_in(getattr(function, "fget", None) or function, set())]
    return [guard for guard in found if guard is not None]


def views_named_in(view: Any) -> list[Endpoint]:
    """Return the guarded views that a view of the URLconf names, in its code or around it, and so may call."""
    named = [_as_endpoint(thing) for thing in _named_in(view, set()) if thing is not view]
    # A class and its `as_view()` are one view.
    found = {id(endpoint.source): endpoint for endpoint in named if endpoint is not None and endpoint.asks_for_a_key}
    return list(found.values())


def views_hidden_in(view: Any) -> list[Endpoint]:
    """Return the guarded views in a function that a decorator without `functools.wraps` has made."""
    hidden: list[Endpoint] = []
    functions = [view] if isinstance(view, FunctionType) else []
    for function in functions:
        for thing in enclosed_in(function):
            if (endpoint := _as_endpoint(thing)) is not None:
                hidden.append(endpoint)
            elif isinstance(thing, FunctionType) and thing not in functions:
                functions.append(thing)
    return [endpoint for endpoint in hidden if endpoint.asks_for_a_key]


def _as_endpoint(thing: Any) -> Endpoint | None:
    """Return what a view, or a class of views, declares; None for any other object."""
    if inspect.isclass(thing) and issubclass(thing, View):
        made: Any = SimpleNamespace(view_class=thing, initkwargs={}, cls=thing if issubclass(thing, APIView) else None)
        return Endpoint("", made, "")
    is_view = callable(thing) and any(hasattr(thing, mark) for mark in ("api_key_guard", "cls", "view_class"))
    return Endpoint("", thing, "") if is_view else None


def _named_in(thing: Any, seen: set[int]) -> Iterator[Any]:
    """Yield the objects that are named in a function and in those that it encloses."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, partial):
        parts: Iterable[Any] = (thing.func, *thing.args, *thing.keywords.values())
    elif isinstance(thing, MethodType):
        parts = (thing.__func__,)
    elif isinstance(thing, FunctionType):
        yield from _globals_named_in(thing)
        parts = [*enclosed_in(thing), *_methods(getattr(thing, "view_class", None))]
    else:
        parts = [*getattr(thing, "__dict__", {}).values(), *_methods(type(thing))] if callable(thing) else ()
    for part in parts:
        yield part
        # What is within a view that shows its guards is its own matter.
        if isinstance(part, FunctionType | MethodType | partial) and _as_endpoint(part) is None:
            yield from _named_in(part, seen)


def _globals_named_in(function: FunctionType) -> Iterator[Any]:
    """Yield the global names of a function, and what it takes out of modules."""
    names: set[str] = set()
    attributes: set[str] = set()
    for code in _with_nested(function.__code__):
        for instruction in dis.get_instructions(code):
            (names if instruction.opname in {"LOAD_GLOBAL", "LOAD_NAME"} else attributes).add(instruction.argval)
    for thing in [function.__globals__[name] for name in names if name in function.__globals__]:
        yield thing
        if isinstance(thing, ModuleType):
            yield from (found for name, found in vars(thing).items() if name in attributes)


def _with_nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_nested(constant)


def _methods(view_class: Any) -> Iterator[Any]:
    """Yield the methods that the project has written."""
    for part in inspect.getmro(view_class) if inspect.isclass(view_class) else ():
        if not f"{part.__module__}.".startswith(_LIBRARIES):
            yield from (method for method in vars(part).values() if isinstance(method, FunctionType))
