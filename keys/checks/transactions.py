"""Checks that a use stays recorded whatever the view does: it is committed before the view's transaction."""

import ast
import inspect
import sys
from collections.abc import Iterator
from inspect import getattr_static
from textwrap import dedent
from typing import Any

from django.conf import settings
from django.core import checks
from django.db import connections, router
from django.utils.module_loading import import_string

from ..endpoints import Endpoint, endpoints
from ..middleware import APIKeyMiddleware
from ..models import APIKey
from .code import guards_named_in, views_named_in

_AFTER_THE_VIEW = {"process_response", "process_exception", "process_template_response"}
_BEGINNINGS = {"atomic", "set_autocommit"}


@checks.register("keys")
def check_middleware_is_installed(**kwargs: object) -> list[checks.CheckMessage]:
    guarded = [endpoint for endpoint in endpoints() if endpoint.asks_for_a_key]
    if not guarded or any(_is_ours(middleware) for _, middleware in middlewares()):
        return []
    return [
        checks.Warning(
            f"API keys guard {len({endpoint.route for endpoint in guarded})} addresses, such as {guarded[0]}, and "
            "APIKeyMiddleware is missing.",
            hint="Add 'keys.middleware.APIKeyMiddleware' to MIDDLEWARE. Without it a use is written in the view's own "
            "transaction and is lost with it, no use gets its status and duration, so that each looks as if its "
            "worker had died in the view, a refusal by scope or rate looks like a use, a key that is left and "
            "then refused by Django Ninja has no row, and answers may be cached.",
            id="keys.W001",
        )
    ]


@checks.register("keys")
def check_guards_can_be_seen_ahead(**kwargs: object) -> list[checks.CheckMessage]:
    return [
        checks.Warning(
            f"The view {what}, so APIKeyMiddleware may not be able to tell ahead of it which keys it accepts.",
            hint=f"{hint} Otherwise uses are written in the view's own transaction, or where no key was asked for.",
            obj=endpoint,
            id="keys.W002",
        )
        for endpoint in endpoints()
        for what, hint in _hidden_guards(endpoint)
    ]


@checks.register("keys")
def check_guarded_views_are_called_by_django(**kwargs: object) -> list[checks.CheckMessage]:
    alias = router.db_for_write(APIKey)
    if not connections[alias].settings_dict["ATOMIC_REQUESTS"]:
        return []
    return [
        checks.Warning(
            f"The view seems to call {called.name_in_code}, which asks for a key, within its own transaction "
            "(ATOMIC_REQUESTS).",
            hint="The middleware sees only the outer view: in each process it verifies a key before the view only once "
            "a request has shown that it is asked for, and a key of a request that the view builds never. Guard the "
            "outer view, use functools.wraps in decorators, or take the outer view out of the transaction "
            "(transaction.non_atomic_requests).",
            obj=endpoint,
            id="keys.W019",
        )
        for endpoint in endpoints()
        if endpoint.is_in_transaction(alias)
        for called in views_named_in(endpoint.view)
        if called.source is not endpoint.source and not {*called.guards} <= {*endpoint.guards}
    ]


@checks.register("keys")
def check_middleware_is_listed_once(**kwargs: object) -> list[checks.CheckMessage]:
    ours = [path for path, middleware in middlewares() if _is_ours(middleware)]
    if len(ours) < 2:
        return []
    return [
        checks.Warning(
            f"APIKeyMiddleware is listed more than once in MIDDLEWARE: {', '.join(ours)}.",
            hint="Keep one of them. The first does all the work.",
            id="keys.W018",
        )
    ]


@checks.register("keys")
def check_keys_come_before_other_authenticators(**kwargs: object) -> list[checks.CheckMessage]:
    alias = router.db_for_write(APIKey)
    if not connections[alias].settings_dict["ATOMIC_REQUESTS"]:
        return []
    return [
        checks.Warning(
            "The view asks for a key after another kind of authenticator, within its transaction (ATOMIC_REQUESTS): "
            "the use is recorded only when the view is done.",
            hint="Put the authenticator that reads keys first in authentication_classes, or in Ninja's auth. Requests "
            "without a key go on to the next one.",
            obj=endpoint,
            id="keys.W003",
        )
        for endpoint in endpoints()
        if endpoint.is_behind_another and endpoint.is_in_transaction(alias)
    ]


@checks.register("keys")
def check_no_middleware_opens_a_transaction(**kwargs: object) -> list[checks.CheckMessage]:
    return [
        checks.Warning(
            f"The middleware {path} seems to open a transaction around the view.",
            hint="A use of a key that is written in it is lost when it is rolled back. Use ATOMIC_REQUESTS, which "
            "begins after the use is recorded; silence this check if the transaction is closed before the view.",
            id="keys.W004",
        )
        for path, middleware in middlewares()
        if not _is_ours(middleware) and _opens_a_transaction(middleware)
    ]


def _hidden_guards(endpoint: Endpoint) -> Iterator[tuple[str, str]]:
    """Yield how a view hides its guard from the middleware, and what to do instead."""
    for method, may_be_ours in (("get_authenticators", endpoint.asks_for_a_key), ("initialize_request", False)):
        named = guards_named_in(getattr(endpoint.source, method)) if endpoint.overrides(method) else []
        if endpoint.overrides(method) and (may_be_ours or not {*named} <= {*endpoint.guards}):
            yield (
                f"overrides {method}()",
                "Name its authenticators in authentication_classes; for one action of a view set in "
                "@action(authentication_classes=...).",
            )
    if endpoint.is_property("authentication_classes") and (
        endpoint.asks_for_a_key or guards_named_in(getattr_static(endpoint.source, "authentication_classes"))
    ):
        yield (
            "has a property for authentication_classes",
            "Make it a list; for one action of a view set name them in @action(authentication_classes=...).",
        )
    if endpoint.guarded_methods and not hasattr(endpoint.view, "api_key_guard"):
        yield (
            "has api_key_required on a method",
            'Write @method_decorator(api_key_required(...), name="dispatch").',
        )


def middlewares() -> Iterator[tuple[str, Any]]:
    for path in settings.MIDDLEWARE:
        try:
            yield path, import_string(path)
        except ImportError:
            continue  # the server reports it when it starts


def _is_ours(middleware: Any) -> bool:
    return isinstance(middleware, type) and issubclass(middleware, APIKeyMiddleware)


def _opens_a_transaction(middleware: Any) -> bool:
    """Tell whether the source of the class or function names what begins a transaction, except after the view."""
    parts = inspect.getmro(middleware) if isinstance(middleware, type) else (middleware,)
    return any(name in _BEGINNINGS for part in parts for name in _names(_syntax_tree(part)))


def _syntax_tree(part: Any) -> ast.Module:
    """Return the parsed source; an empty module if there is none, or it is not a whole statement."""
    try:
        # Reading a file is fast, extracting a class is slow: first look whether the file has one of the names.
        if any(name in inspect.getsource(sys.modules[part.__module__]) for name in _BEGINNINGS):
            return ast.parse(dedent(inspect.getsource(part)))
    except (AttributeError, KeyError, OSError, TypeError, SyntaxError):
        pass
    return ast.Module([], [])


def _names(node: ast.AST) -> Iterator[str]:
    if getattr(node, "name", None) not in _AFTER_THE_VIEW:
        yield getattr(node, "attr", "") or getattr(node, "id", "")
        for child in ast.iter_child_nodes(node):
            yield from _names(child)
