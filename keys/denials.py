"""Tells how a view of Django REST framework ended a request: by a denial of its key, or because nobody accepted it.

A permission that denies need not decide: the other half of `A | B` may allow, or a view may only ask. Nor does the
answer tell: a project's exception handler gives it any status. So after a denial the view is watched: which exception
came of it, and which one ended the request. So it is after a key was left to other authenticators.
"""

from collections.abc import Callable, Iterator
from functools import partial
from traceback import walk_tb
from typing import Any

from asgiref.sync import iscoroutinefunction
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated, Throttled
from rest_framework.request import Request

from .verification import Reason, Use, refuse_left, uses_of

_Refused = Callable[[Use], Exception]


def note(request: Request, view: Any, reason: str) -> None:
    """Note that a permission or throttle denied the request of a good key, and watch whether that decides."""
    if "response" in getattr(view, "__dict__", ()):
        return  # it has answered, and the browsable API asks what else the caller may do
    uses = _uses_of(request)
    for use in uses:
        use.denial = reason
    # A permission may be asked elsewhere than in a view; then only the status of the answer can tell.
    if uses and hasattr(view, "handle_exception") and "permission_denied" not in vars(view):
        _watch(request, view, uses)


def forget(request: Request) -> None:
    """Forget what a permission noted: another one has allowed the request."""
    for use in _uses_of(request):
        use.denial = Reason.NONE


def watch_left(request: Request, use: Use, refused: _Refused) -> None:
    """Watch whether another authenticator accepts the request, whose key this use has left. The first watch is enough.

    `refused` makes the exception for the case that the refusal cannot be recorded.
    """
    view: Any = (request.parser_context or {}).get("view")
    if hasattr(view, "handle_exception") and "handle_exception" not in vars(view):
        view.handle_exception = _Watched(_handle_unaccepted, view.handle_exception, request, use, refused)


def _handle_unaccepted(
    handle_exception: Callable[..., Any],
    request: Request,
    use: Use,
    refused: _Refused,
    error: Exception,
) -> Any:
    """Refuse the key if this exception says that nobody accepted it, whatever answer a project makes of it."""
    plain = request._request
    # Another guard of ours has its own row.
    is_decided = getattr(plain, "api_key_use", None) is not None or request.__dict__.get("_authenticator") is not None
    if is_decided or not any(map(_is_of_unknown, _with_contexts(error))):
        return handle_exception(error)
    refuse_left(plain, use)
    if use.is_unavailable:
        return handle_exception(refused(use))
    response = handle_exception(error)
    use.answer = response.status_code
    return response


def _is_of_unknown(error: BaseException) -> bool:
    is_of_framework = isinstance(error, AuthenticationFailed | NotAuthenticated)
    return is_of_framework or getattr(error, "status_code", None) == 401


def _uses_of(request: Request) -> list[Use]:
    # A plain view may ask a permission too, with Django's own request.
    return uses_of(getattr(request, "_request", request), getattr(request, "auth", None))


class _Watched(partial[Any]):
    """A method with a watch before it. Its attributes are the method's: permissions may decide by them."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.args[0], name)


def _watch(request: Request, view: Any, uses: list[Use]) -> None:
    """Put watched methods before those of the view, which serves this request alone."""
    # Without functools.wraps, which costs more than the rest: one half of `A | B` often denies.
    view.handle_exception = _Watched(_handle_exception, view.handle_exception, uses)
    view.permission_denied = _Watched(_deny, view.permission_denied, Reason.SCOPE, uses)
    view.throttled = _Watched(_deny, view.throttled, Reason.RATE, uses)
    method = (request.method or "").lower()
    # The client may name any method, such as the names above.
    handler = getattr(view, method, None) if method in getattr(view, "http_method_names", ()) else None
    if handler is not None:
        handle = _handle_async if iscoroutinefunction(handler) else _handle
        setattr(view, method, _Watched(handle, handler, uses))


def _handle_exception(handle_exception: Callable[..., Any], uses: list[Use], error: Exception) -> Any:
    for use in uses:
        if _ended_by_denial(error, use.denial):
            use.denied = use.denial
    return handle_exception(error)


def _deny(deny: Callable[..., Any], reason: str, uses: list[Use], *args: Any, **kwargs: Any) -> Any:
    """Call the method of the view that raises the denial, and mark what it raises, whatever that is."""
    try:
        return deny(*args, **kwargs)
    except Exception as error:
        if any(use.denial == reason for use in uses):
            error.denies_api_key = True  # type: ignore[attr-defined]
        raise


def _handle(handler: Callable[..., Any], uses: list[Use], *args: Any, **kwargs: Any) -> Any:
    """Call the handler, and forget earlier denials: where it runs, none of them decided."""
    for use in uses:
        use.denial = Reason.NONE
    return handler(*args, **kwargs)


async def _handle_async(handler: Callable[..., Any], uses: list[Use], *args: Any, **kwargs: Any) -> Any:
    return await _handle(handler, uses, *args, **kwargs)


def _ended_by_denial(error: Exception, denial: str) -> bool:
    """Tell whether the request was ended by its denial: by the exception, or by one that replaced it.

    Before the handler, a view may raise its own exception after a permission denied. In the handler, that may be about
    something else.
    """
    if not denial:
        return False
    if any(hasattr(one, "denies_api_key") for one in _with_contexts(error)):
        return True
    is_before_handler = any(frame.f_code.co_name == "initial" for frame, _ in walk_tb(error.__traceback__))
    return is_before_handler and not (isinstance(error, Throttled) and denial == Reason.SCOPE)


def _with_contexts(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the exception, and those in whose handling it was raised."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
