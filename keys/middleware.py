"""Makes the audit log independent of the view's transaction.

Django REST framework authenticates inside the transaction of `ATOMIC_REQUESTS`, which every error answer rolls back,
with its row in the log. `process_view` runs before that transaction: it verifies the key, commits its use, and leaves
the decision on the request for the authenticator.
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

from . import credentials
from .audit.recording import AuditUnavailable
from .conf import conf
from .endpoints import guards_ahead
from .verification import UNAVAILABLE_DETAIL, Guard, Use, check, conclude

CLIENT_CLOSED_REQUEST = 499


class APIKeyMiddleware:
    """Verifies and records keys before the view, and adds the outcome after it. Works with WSGI and ASGI."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)
        # Settings of a wrong type stop the server's start. Raises ImproperlyConfigured.
        conf.PREFIX  # noqa: B018

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if credentials.exposed:
            credentials.hide_from_reports(request)
        request.api_key_uses = {}  # type: ignore[attr-defined]
        if self.is_async:
            return self._respond(request)
        try:
            response = self.get_response(request)
        except Exception:
            # Only with DEBUG_PROPAGATE_EXCEPTIONS; otherwise Django has turned it into an answer.
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
            # In the thread that may still be verifying, so after it.
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
        """Verify the key before the view, as its authenticators will, in their order."""
        guards = guards_ahead(view, request, args, kwargs)
        request.api_key_guards = [guard for guard in guards if guard is not None]  # type: ignore[attr-defined]
        # Only up to an authenticator of another kind: it may accept the request, so later guards check when they are
        # called.
        for guard in takewhile(lambda guard: guard is not None, guards):
            request.api_key_uses[guard] = use = check(request, guard)  # type: ignore[attr-defined,arg-type]
            if use is not None:
                # Without the database, the view's own transaction could not begin.
                return _unavailable() if use.is_unavailable else None
        return None


def _unavailable() -> JsonResponse:
    return JsonResponse({"detail": UNAVAILABLE_DETAIL}, status=503)


def _unfinished(request: HttpRequest) -> list[Use]:
    """Return the uses without an outcome; hardly ever more than one."""
    uses: Iterable[Use | None] = request.api_key_uses.values()  # type: ignore[attr-defined]
    return [use for use in uses if use is not None and not use.is_concluded]


def _with_headers(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Keep answers that depend on a key out of caches."""
    # The guards known before the view, and those that were called in it.
    guards: list[Guard] = [*getattr(request, "api_key_guards", ()), *request.api_key_uses]  # type: ignore[attr-defined]
    if guards:
        if response.status_code == 401:
            response.headers.setdefault("WWW-Authenticate", guards[0].challenge)  # Ninja does not set it
        response["Cache-Control"] = "no-store"
        patch_vary_headers(response, list(dict.fromkeys(header for guard in guards for header in guard.vary)))
    return response


def _conclude_refusal(use: Use, response: HttpResponseBase) -> HttpResponseBase:
    """Record a refusal after the view's transaction."""
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
    """Add the outcome when the answer has been sent, or when it is clear that it will not be."""
    is_dropped = False
    if isinstance(response, StreamingHttpResponse):
        wrap = _concluding_async if response.is_async else _concluding
        response.streaming_content = wrap(response.streaming_content, response, use)  # type: ignore[arg-type]
        # If the client leaves before the first part, the generator never starts; HEAD sends no parts.
        is_dropped = request.method != "HEAD"
    close = request.close

    def close_and_conclude() -> None:
        close()
        conclude(use, CLIENT_CLOSED_REQUEST if is_dropped else response.status_code)

    # Django calls this for the response it sends, even if another middleware replaced ours.
    request.close = close_and_conclude  # type: ignore[method-assign]


def _concluding(parts: Iterator[bytes], response: HttpResponseBase, use: Use) -> Iterator[bytes]:
    status = CLIENT_CLOSED_REQUEST
    try:
        yield from parts
        status = response.status_code
    except Exception:
        status = 500
        raise
    finally:
        conclude(use, status)


async def _concluding_async(parts: AsyncIterator[bytes], response: HttpResponseBase, use: Use) -> AsyncIterator[bytes]:
    status = CLIENT_CLOSED_REQUEST
    try:
        async for part in parts:
            yield part
        status = response.status_code
    except Exception:
        status = 500
        raise
    finally:
        # Under ASGI the response is not closed if its body raises, and a client that leaves cancels this task.
        await asyncio.shield(sync_to_async(conclude)(use, status))
