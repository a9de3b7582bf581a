"""The guard for plain Django views: functions and classes, sync and async."""

from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpRequest, JsonResponse
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from .decisions import keep_out_of_caches
from .verification import Guard, Use, scope_denial, use_of

GUARD = Guard()
MISSING_DETAIL = "Authentication credentials were not provided."
_MOST_LAYERS = 100


def api_key_required(*scopes: str, guard: Guard = GUARD) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Guard a view with a key that holds all the scopes, and set `request.auth` to the key.

    Answers 401, 400, 403 and 503 as the authentication classes do, as JSON. The view is exempt from CSRF
    protection and from LoginRequiredMiddleware, as no cookie authenticates it. For a class:
    `@method_decorator(api_key_required(), name="dispatch")`. Views of Django REST framework have their own
    authentication classes, which set its `request.auth`.
    """

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        async def guarded_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            use = await sync_to_async(use_of)(_plain(request), guard)
            return _refusal(request, use, guard, scopes) or await view(request, *args, **kwargs)

        def guarded_sync(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return _refusal(request, use_of(_plain(request), guard), guard, scopes) or view(request, *args, **kwargs)

        is_async = iscoroutinefunction(view) or _is_awaited(view)
        guarded = csrf_exempt(wraps(view)(guarded_async if is_async else guarded_sync))
        guarded.login_required = False  # type: ignore[attr-defined]  # for LoginRequiredMiddleware
        guarded.api_key_guard = guard  # type: ignore[attr-defined]
        guarded.api_key_scopes = scopes  # type: ignore[attr-defined]
        if hasattr(view, "initkwargs"):
            # Tools that instantiate the view's class, such as API documentation, find the guard here.
            guarded.initkwargs = {**view.initkwargs, "api_key_view": guarded}  # type: ignore[attr-defined]
        return guarded

    return decorate


def _is_awaited(view: Any) -> bool:
    """Tell whether it is the `dispatch` of a class with async handlers, which itself is not async."""
    instances = (getattr(part, "__self__", None) for part in layers_of(view))
    return any(instance.view_is_async for instance in instances if isinstance(instance, View))


def layers_of(view: Any) -> Iterator[Any]:
    """Yield the view, and what lies within it by `functools.partial` and `functools.wraps`, the outermost first."""
    seen: set[int] = set()
    # An object may wrap itself, or have any attribute that it is asked for.
    while view is not None and id(view) not in seen and len(seen) < _MOST_LAYERS:
        seen.add(id(view))
        yield view
        view = view.func if isinstance(view, partial) else getattr(view, "__wrapped__", None)


def _plain(request: HttpRequest) -> HttpRequest:
    """Return Django's request; methods of Django REST framework's views get a wrapper of it."""
    plain: HttpRequest | None = getattr(request, "_request", None)
    if plain is None:
        return request
    keep_out_of_caches(request)
    return plain


def _refusal(request: HttpRequest, use: Use | None, guard: Guard, scopes: tuple[str, ...]) -> JsonResponse | None:
    """Return the answer that refuses the request; None, with `request.auth` set, if the key is good."""
    if use is None:
        return _answer(guard, 401, MISSING_DETAIL)
    if use.holder is None or not use.is_good:
        return _answer(guard, use.status, use.detail)
    if denial := scope_denial(use, scopes):
        return _answer(guard, 403, denial)
    request.auth = use.holder  # type: ignore[attr-defined]
    return None


def _answer(guard: Guard, status: int, detail: str) -> JsonResponse:
    response = JsonResponse({"detail": detail}, status=status)
    if status == 401:
        response["WWW-Authenticate"] = guard.challenge
    return response
