"""A plain view that only a key opens: its guard, its scopes and its rate, and answers that are not the project's.

Not a view of Django REST framework: a project's exception handler may answer 200 to everything, and a proxy lets
through what has that status.
"""

from collections.abc import Callable, Sequence
from http.cookies import SimpleCookie
from math import ceil
from typing import Any, ClassVar

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.exceptions import Throttled

from ..conf import is_scope
from ..decorators import MISSING_DETAIL, refusal
from ..keyrings import Holder
from ..permissions import scopes_named
from ..throttling import APIKeyRateThrottle, RateUnavailable
from ..verification import UNAVAILABLE_DETAIL, Guard, Reason, Subject, Use, scope_denial, use_of

_UNTOLD_SCOPE = "The gateway does not say which scope it asks for."


class _Unsent(SimpleCookie):
    """Cookies that no server sends."""

    def values(self) -> Any:
        return ()


class _Everywhere(set[str]):
    """Every alias of a database, for `ATOMIC_REQUESTS`: the rows of these views are no part of a transaction."""

    def __contains__(self, alias: object) -> bool:
        return True


class KeyView(View):
    """Answers those whose key holds `scopes`, within its rate. `guard` tells where keys are read from and stored.

    Any method, no cookie and no body are looked at. Refusals are those of `api_key_required`, with their status
    whatever `KEYS["REFUSAL_RESPONSE"]` makes of them. A guard that leaves unknown keys to others refuses them here.
    What is no list of scopes opens the view to nobody.
    """

    scopes: ClassVar[Sequence[str] | str] = ()
    guard: ClassVar[Guard] = Guard()
    throttle_classes: ClassVar[Sequence[Any]] = (APIKeyRateThrottle,)
    subject: ClassVar[Callable[[HttpRequest], Subject] | None] = None

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        """Return the view, with what the middleware, the checks and the documentation look at.

        Raises TypeError if `guard` is none.
        """
        guard, scopes, throttles = (
            initkwargs.get(name, getattr(cls, name)) for name in ("guard", "scopes", "throttle_classes")
        )
        if not isinstance(guard, Guard):
            raise TypeError(f"{cls.__name__} needs a Guard as its guard, and has {guard!r}.")
        initkwargs["guard"] = guard = guard.for_gateway(cls.subject, cls.finish)
        view: Any = csrf_exempt(super().as_view(**initkwargs))
        # As api_key_required sets it.
        view.api_key_guard, view.api_key_scopes, view.api_key_or_user = guard, declared_scopes(scopes) or (), False
        view.login_required = False
        view.initkwargs = {"throttle_classes": throttles, "scopes": scopes}
        view._non_atomic_requests = _Everywhere()
        answered: Callable[..., HttpResponseBase] = view
        return answered

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        use = use_of(request, self.guard)
        response = self._refusal(request, use)
        if response is None:
            holder: Any = use and use.holder
            response = self.answer(request, holder)
        response["Cache-Control"] = "no-store"
        patch_vary_headers(response, self.guard.vary)
        response.cookies = _Unsent()
        return response

    def answer(self, request: HttpRequest, holder: Holder) -> HttpResponseBase:
        """Return the answer to a request with a good key."""
        raise NotImplementedError

    def scopes_of(self, request: HttpRequest) -> Sequence[str] | None:
        """Return the scopes that this request asks for; None if nobody can tell, and no key may do it."""
        return declared_scopes(self.scopes)

    @classmethod
    def finish(cls, request: HttpRequest, response: HttpResponseBase, status: int, detail: str) -> None:
        """Make of a refusal what is sent: with its own status, and with nothing that leads elsewhere or is kept."""
        response.status_code = status
        response.cookies = _Unsent()
        for header in ("Set-Cookie", "Location", "Refresh"):
            del response[header]

    def _refusal(self, request: HttpRequest, use: Use | None) -> HttpResponseBase | None:
        """Return the answer that refuses the request; None if the key is good, and holds the scopes."""
        if use is None:
            return self.refuse(request, 401, MISSING_DETAIL)
        if use.holder is None or not use.is_good:
            return self.refuse(request, use.status, use.detail)
        scopes = self.scopes_of(request)
        if scopes is None:
            use.denied = Reason.SCOPE
            return self.refuse(request, 403, _UNTOLD_SCOPE)
        if denial := scope_denial(use, scopes):
            return self.refuse(request, 403, denial)
        return self._refusal_by_rate(request, use)

    def refuse(self, request: HttpRequest, status: int, detail: str) -> HttpResponseBase:
        """Return the answer of a refusal."""
        return refusal(request, self.guard, status, detail)

    def _refusal_by_rate(self, request: HttpRequest, use: Use) -> HttpResponseBase | None:
        request.auth = use.holder  # type: ignore[attr-defined]
        for throttle in [throttle_class() for throttle_class in self.throttle_classes]:
            framework_request: Any = request
            try:
                if throttle.allow_request(framework_request, self):
                    continue
            except RateUnavailable:
                return self.refuse(request, 503, UNAVAILABLE_DETAIL)
            use.denied = Reason.RATE
            wait = throttle.wait()
            response = self.refuse(request, 429, str(Throttled(wait).detail))
            if wait is not None:
                response["Retry-After"] = str(ceil(wait))
            return response
        return None


def declared_scopes(scopes: Any) -> Sequence[str] | None:
    """Return the scopes that a view declares; None if they are no scopes. An empty list asks for none."""
    if isinstance(scopes, list | tuple) and not scopes:
        return ()
    named = scopes_named(scopes)
    return named if named is not None and all(map(is_scope, named)) else None
