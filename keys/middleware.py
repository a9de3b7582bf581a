"""What makes the audit log independent of the view's transaction.

Authentication in Django REST framework runs inside the block of `ATOMIC_REQUESTS`, which every error answer
rolls back, a row in the log included. `process_view` runs outside of it: there the key is verified and its use
committed before the view starts, and the authenticator finds the decision on the request.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from itertools import takewhile
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

from .audit.recording import AuditUnavailable
from .endpoints import guards_ahead
from .verification import UNAVAILABLE_DETAIL, Guard, Use, check, conclude

CLIENT_CLOSED_REQUEST = 499


class APIKeyMiddleware:
    """Verifies and records keys before the view, and adds the outcome after it. Works in WSGI and ASGI."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        request.api_key_uses = {}  # type: ignore[attr-defined]
        if self.is_async:
            return self._respond(request)
        try:
            response = self.get_response(request)
        except Exception:
            # Under DEBUG_PROPAGATE_EXCEPTIONS; otherwise Django makes an answer of it before it comes here.
            _conclude_without_answer(request, 500)
            raise
        for use in _unfinished(request):
            if use.is_good:
                _conclude_when_sent(request, response, use)
            else:
                response = _conclude_refusal(use, response)
        return _with_headers(request, response)

    async def _respond(self, request: HttpRequest) -> HttpResponseBase:
        try:
            response = await self.get_response(request)
        except (Exception, asyncio.CancelledError) as error:
            # In the thread that may still be verifying, behind it.
            status = 500 if isinstance(error, Exception) else CLIENT_CLOSED_REQUEST
            await asyncio.shield(sync_to_async(_conclude_without_answer)(request, status))
            raise
        for use in _unfinished(request):
            if not use.is_good:
                response = await asyncio.shield(sync_to_async(_conclude_refusal)(use, response))
            elif isinstance(response, StreamingHttpResponse):
                _conclude_when_sent(request, response, use)
            else:
                await asyncio.shield(sync_to_async(conclude)(use, response.status_code))
        return _with_headers(request, response)

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        """Verify the key ahead of the view, as its authenticators will do, in their order."""
        guards = guards_ahead(view, request, args, kwargs)
        request.api_key_guards = [guard for guard in guards if guard is not None]  # type: ignore[attr-defined]
        # Behind another kind of authenticator, which may let the request in first, the guard's own call decides.
        for guard in takewhile(lambda guard: guard is not None, guards):
            request.api_key_uses[guard] = use = check(request, guard)  # type: ignore[attr-defined,arg-type]
            if use is not None:
                # The view's own transaction could not begin on a database that is out of reach.
                return _unavailable() if use.is_unavailable else None
        return None


def _unavailable() -> JsonResponse:
    return JsonResponse({"detail": UNAVAILABLE_DETAIL}, status=503)


def _unfinished(request: HttpRequest) -> list[Use]:
    """Return the uses that wait for their outcome; hardly ever more than one."""
    uses: Iterable[Use | None] = request.api_key_uses.values()  # type: ignore[attr-defined]
    return [use for use in uses if use is not None and not use.is_concluded]


def _with_headers(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Keep answers that depend on a key out of every cache."""
    # Those that the view was known to have, and those that turned up in it.
    guards: list[Guard] = [*getattr(request, "api_key_guards", ()), *request.api_key_uses]  # type: ignore[attr-defined]
    if guards:
        if response.status_code == 401:
            # Ninja leaves it out.
            response.headers.setdefault("WWW-Authenticate", guards[0].challenge)
        response["Cache-Control"] = "no-store"
        patch_vary_headers(response, list(dict.fromkeys(header for guard in guards for header in guard.vary)))
    return response


def _conclude_refusal(use: Use, response: HttpResponseBase) -> HttpResponseBase:
    """Record a refusal now that the view's transaction is over."""
    try:
        conclude(use, response.status_code)
    except AuditUnavailable:
        return _unavailable()
    return response


def _conclude_without_answer(request: HttpRequest, status: int) -> None:
    for use in _unfinished(request):
        with suppress(AuditUnavailable):
            conclude(use, status)


def _conclude_when_sent(request: HttpRequest, response: HttpResponseBase, use: Use) -> None:
    """Add the outcome once the answer has gone out, or when it is clear that it will not."""
    is_dropped = False
    if isinstance(response, StreamingHttpResponse):
        follow = _followed_async if response.is_async else _followed
        response.streaming_content = follow(response.streaming_content, response, use)  # type: ignore[arg-type]
        # A stream that is dropped before its first part never enters the generator; one for HEAD has no parts.
        is_dropped = request.method != "HEAD"
    close = request.close

    def close_and_conclude() -> None:
        close()
        conclude(use, CLIENT_CLOSED_REQUEST if is_dropped else response.status_code)

    # Django hangs this on the response that goes out in the end, even if a middleware put it in our answer's place.
    request.close = close_and_conclude  # type: ignore[method-assign]


def _followed(parts: Iterator[bytes], response: HttpResponseBase, use: Use) -> Iterator[bytes]:
    status = CLIENT_CLOSED_REQUEST
    try:
        yield from parts
        status = response.status_code
    except Exception:
        status = 500
        raise
    finally:
        conclude(use, status)


async def _followed_async(parts: AsyncIterator[bytes], response: HttpResponseBase, use: Use) -> AsyncIterator[bytes]:
    status = CLIENT_CLOSED_REQUEST
    try:
        async for part in parts:
            yield part
        status = response.status_code
    except Exception:
        status = 500
        raise
    finally:
        # Under ASGI the response is not closed when its body raises, and a dropped client cancels this task.
        await asyncio.shield(sync_to_async(conclude)(use, status))
