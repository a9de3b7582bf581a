"""The guard for plain Django views: functions and classes, sync and async; and the answer that refuses a request."""

import logging
from collections.abc import Callable, Iterator
from functools import partial, wraps
from inspect import iscoroutine
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware
from django.template.response import SimpleTemplateResponse
from django.utils.cache import patch_vary_headers
from django.utils.module_loading import import_string
from django.views import View
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from rest_framework.views import APIView

from .actor import Service, is_person
from .authentication import set_user, user_for
from .conf import conf
from .verification import Guard, Use, refuse_left, scope_denial, use_of
from .verification.decisions import keep_out_of_caches

logger = logging.getLogger("api_keys")

GUARD = Guard()
MISSING_DETAIL = "Authentication credentials were not provided."
_MOST_LAYERS = 100

_MOST_TOLD = 100
# What was wrong with the project's answers, or with the questions of its proxies.
_told: set[str] = set()


def api_key_required(
    *scopes: str, guard: Guard = GUARD, or_user: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Guard a view with a key that holds all the scopes; set `request.auth` to the key, `request.user` to the service.

    With a guard that acts as the owner, `request.user` is the owner of the key where that is a user. Where
    `login_required` is below the guard, a service is not enough: somebody has to be logged in, beside the key.

    Answers 401, 400, 403 and 503 as the authentication classes do, as JSON, or as `KEYS["REFUSAL_RESPONSE"]` says. The
    view is exempt from CSRF
    protection and from LoginRequiredMiddleware, as no cookie authenticates it. For a class:
    `@method_decorator(api_key_required(), name="dispatch")`. Views of Django REST framework have their own
    authentication classes, which set its `request.auth` and `request.user`.

    With `or_user`, somebody who is logged in passes without a key, `request.auth` is None, and CSRF protection holds,
    also below `csrf_exempt`. Who presents a key passes by it or not at all, whoever is logged in; a key that the guard
    leaves to others counts as none.
    """

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        guarded_view = _GuardedView(view, guard, scopes, or_user)

        async def guarded_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            answer = await sync_to_async(guarded_view.decide)(request)
            return answer if isinstance(answer, HttpResponseBase) else await answer(request, *args, **kwargs)

        def guarded_sync(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            answer = guarded_view.decide(request)
            return answer if isinstance(answer, HttpResponseBase) else answer(request, *args, **kwargs)

        guarded = csrf_exempt(wraps(view)(guarded_async if guarded_view.is_async else guarded_sync))
        guarded.login_required = False  # type: ignore[attr-defined]  # for LoginRequiredMiddleware
        guarded.api_key_guard = guard  # type: ignore[attr-defined]
        guarded.api_key_scopes = scopes  # type: ignore[attr-defined]
        guarded.api_key_or_user = or_user  # type: ignore[attr-defined]
        if hasattr(view, "initkwargs"):
            # Tools that instantiate the view's class, such as API documentation, find the guard here.
            guarded.initkwargs = {**view.initkwargs, "api_key_view": guarded}  # type: ignore[attr-defined]
        return guarded

    return decorate


class _GuardedView:
    """A view, and who may call it: whoever presents a good key or, with `or_user`, is logged in."""

    def __init__(self, view: Callable[..., Any], guard: Guard, scopes: tuple[str, ...], or_user: bool) -> None:
        self._view, self._guard, self._scopes, self._or_user = view, guard, scopes, or_user
        self.is_async = iscoroutinefunction(view) or _is_awaited(view)
        self._view_for_users = _with_cookies(view, self.is_async) if or_user else view
        self._takes_users = not _is_of_framework(view)
        self._takes_services = self._takes_users and (or_user or not _asks_for_login(view))

    def decide(self, request: HttpRequest) -> Any:
        """Return the view that answers the request, with `request.auth` and `request.user` set; or the refusal."""
        plain = _plain(request)
        use = use_of(plain, self._guard)
        is_left = use is not None and use.is_left
        if self._or_user and (is_left or self._guard.wanted.read(plain.META) is None):
            return self._decide_without_key(request, plain, use)
        return self._refusal(plain, use) or self._view_for_key(request, use and use.holder)

    def _view_for_key(self, request: HttpRequest, holder: Any) -> Callable[..., Any]:
        request.auth = holder  # type: ignore[attr-defined]
        user = user_for(holder, self._guard)
        if self._takes_services if isinstance(user, Service) else self._takes_users:
            set_user(request, user)
        return self._view

    def _decide_without_key(self, request: HttpRequest, plain: HttpRequest, use: Use | None) -> Any:
        if not is_person(getattr(request, "user", None)):
            return _vary(self._refusal(plain, use))
        if self._takes_users:
            request.auth = None  # type: ignore[attr-defined]
        return _of_forged(plain) or self._view_for_users

    def _refusal(self, request: HttpRequest, use: Use | None) -> HttpResponseBase | None:
        """Return the answer that refuses the request; None if the key is good."""
        if use is None:
            detail = self._guard.refused_detail if self._guard.answers_missing else MISSING_DETAIL
            return refusal(request, self._guard, 401, detail)
        if use.is_left:
            refuse_left(request, use)
        if use.holder is None or not use.is_good:
            return refusal(request, self._guard, use.status, use.detail)
        if denial := scope_denial(use, self._scopes):
            return refusal(request, self._guard, 403, denial)
        return None


def refusal(request: HttpRequest, guard: Guard, status: int, detail: str) -> HttpResponseBase:
    """Return the answer that refuses a request: as `KEYS["REFUSAL_RESPONSE"]` makes it, or as JSON.

    Its headers say what they have to say of keys, whoever made it.
    """
    answer = _of_project(request, status, str(detail)) if conf.REFUSAL_RESPONSE else None
    response = answer or JsonResponse({"detail": detail}, status=status)
    if status == 401:
        response["WWW-Authenticate"] = guard.challenge
    response["Cache-Control"] = "no-store"
    patch_vary_headers(response, guard.vary)
    if guard.finish is not None:
        guard.finish(request, response, status, str(detail))
    return response


def _of_project(request: HttpRequest, status: int, detail: str) -> HttpResponseBase | None:
    """Return the answer that the project makes; None, and an error on the log, if it makes none."""
    try:
        answer = import_string(conf.REFUSAL_RESPONSE)(request, status, detail)
        # Django renders what a view returns, and not what the middleware answers.
        if isinstance(answer, SimpleTemplateResponse):
            answer = answer.render()
    except Exception as error:
        # Without its text and its frames, which may hold what the request presented.
        _say(f"raised {type(error).__name__}")
        return None
    if isinstance(answer, HttpResponseBase):
        return answer
    if iscoroutine(answer):
        answer.close()
    _say(f"returned no response, but {type(answer).__name__}")
    return None


def _say(trouble: str) -> None:
    """Say on the log what the project's function did instead of an answer."""
    message = f'KEYS["REFUSAL_RESPONSE"], {conf.REFUSAL_RESPONSE}, {trouble}: such refusals are answered with JSON.'
    say_once(message)


def say_once(mistake: str) -> None:
    """Say on the log what is wrong in a configuration, once: strangers can be refused as often as they like."""
    if mistake not in _told and len(_told) < _MOST_TOLD:
        _told.add(mistake)
        logger.error(mistake)


def _is_awaited(view: Any) -> bool:
    """Tell whether it is the `dispatch` of a class with async handlers, which itself is not async."""
    instances = (getattr(part, "__self__", None) for part in layers_of(view))
    return any(instance.view_is_async for instance in instances if isinstance(instance, View))


def _is_of_framework(view: Any) -> bool:
    """Tell whether it is a view of Django REST framework, or a method of one.

    Its SessionAuthentication takes Django's `request.user` for somebody with a cookie, and asks for a CSRF token.
    """
    parts = [*layers_of(view)]
    return any(hasattr(part, "cls") or isinstance(getattr(part, "__self__", None), APIView) for part in parts)


def _asks_for_login(view: Any) -> bool:
    """Tell whether Django's `login_required`, or a mixin like it, is below the guard. A service is no login."""
    return any(
        hasattr(part, "redirect_field_name")
        for layer in layers_of(view)
        for part in (layer, getattr(layer, "__self__", None), getattr(layer, "view_class", None))
    )


def _with_cookies(view: Any, is_async: bool) -> Any:
    """Return the view for somebody with a cookie: the answer depends on it, and may set the one for CSRF tokens."""

    async def call_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return _vary(await view(request, *args, **kwargs))

    def call(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return _vary(view(request, *args, **kwargs))

    return csrf_protect(call_async if is_async else call)


def _vary(response: Any) -> Any:
    if isinstance(response, HttpResponseBase):  # else Django says what is wrong with it
        patch_vary_headers(response, ["Cookie"])
    return response


def _of_forged(request: HttpRequest) -> HttpResponseBase | None:
    """Return the answer to a request without a CSRF token that needs one; None to any other.

    It does not look at the view, which may be exempt for the sake of its keys. May read the session.
    """
    protection = CsrfViewMiddleware(_unasked)
    protection.process_request(request)
    return protection.process_view(request, _unasked, (), {})


def _unasked(request: HttpRequest) -> HttpResponse:
    """Stand for the view, which the protection does not call."""
    return HttpResponse()


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
