"""Makes the audit log independent of the view's transaction.

Django REST framework authenticates inside the transaction of `ATOMIC_REQUESTS`, which every error answer rolls back,
with its row in the log. `process_view` runs before that transaction: it verifies the key, commits its use, and leaves
the decision on the request for the authenticator.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import Token
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.db import connections
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

from .. import actor, credentials
from ..audit import statements
from ..audit.recording import AuditUnavailable
from ..conf import conf
from ..decorators import refusal
from ..verification import UNAVAILABLE_DETAIL, Guard, Use, check, conclude
from ..verification.decisions import Decisions, current, decisions_on
from .ahead import foresight_of
from .settling import is_unauthenticated, settle

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
        outer: Decisions | None = getattr(request, "api_key_uses", None)
        if outer is not None:
            if outer.request_id == id(request) and outer.is_open:
                # Listed twice, perhaps as a subclass: the first of them does the work.
                answer: HttpResponseBase | Awaitable[HttpResponseBase] = self.get_response(request)
                return answer
            outer = outer if outer.is_open else None
        decisions = Decisions(request, outer)
        request.api_key_uses = decisions  # type: ignore[attr-defined]
        if self.is_async:
            return self._respond(request, decisions)
        token, before = current.set(decisions), actor.answered.set(decisions.answered)
        try:
            response = self.get_response(request)
        except Exception:
            # Only with DEBUG_PROPAGATE_EXCEPTIONS; otherwise Django has turned it into an answer.
            _conclude_without_answer(decisions, 500)
            raise
        finally:
            current.reset(token)
            actor.answered.reset(before)
        if is_unauthenticated(response) and not settle(request, response, decisions):
            response = refusal(request, decisions.guards[0], 503, UNAVAILABLE_DETAIL)
        # Nobody may close the answer to a request that another view has sent through all of Django.
        is_within = token.old_value not in (None, Token.MISSING)
        for use in decisions.unfinished():
            if not use.is_good:
                response = _conclude_refusal(request, use, response)
            elif (is_within or _is_heard(use)) and not response.streaming:
                conclude(use, response.status_code)
            else:
                _conclude_when_sent(request, response, use, decisions)
        return _done(response, decisions)

    async def _respond(self, request: HttpRequest, decisions: Decisions) -> HttpResponseBase:
        before, answered = current.get(), actor.answered.get()
        current.set(decisions)
        actor.answered.set(decisions.answered)
        try:
            response = await self.get_response(request)
        except (Exception, asyncio.CancelledError) as error:
            # In the thread that may still be verifying, so after it.
            status = 500 if isinstance(error, Exception) else CLIENT_CLOSED_REQUEST
            await asyncio.shield(sync_to_async(_conclude_without_answer)(decisions, status))
            raise
        finally:
            # Not by a token: a task that is cancelled may end in another context.
            current.set(before)
            actor.answered.set(answered)
        if is_unauthenticated(response) and decisions.guards:
            can_tell = await asyncio.shield(sync_to_async(settle)(request, response, decisions))
            if not can_tell:
                response = await sync_to_async(refusal)(request, decisions.guards[0], 503, UNAVAILABLE_DETAIL)
        for use in decisions.unfinished():
            if not use.is_good:
                response = await asyncio.shield(sync_to_async(_conclude_refusal)(request, use, response))
            elif isinstance(response, StreamingHttpResponse):
                _conclude_when_sent(request, response, use, decisions)
            else:
                await asyncio.shield(sync_to_async(conclude)(use, response.status_code))
        return _done(response, decisions)

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        """Verify the key before the view, as its authenticators will, in their order."""
        decisions = decisions_on(request)
        if decisions is None or decisions.foresight is not None:
            return None  # listed twice
        decisions.foresight = foresight = foresight_of(view)
        decisions.place = statements.changing_place()
        choose = foresight.choose
        guards = foresight.declared if choose is None else foresight.chosen(choose, request, args, kwargs)
        decisions.guards += [guard for guard in guards if guard is not None]
        use: Use | None = None
        for guard in guards:
            if guard is None:
                # It may accept the request, so later guards check when they are called.
                break
            use = _verify(request, guard, decisions)
            if use is not None and not use.is_left:
                # Without the database, the view's own transaction could not begin.
                if use.is_unavailable:
                    return refusal(request, guard, 503, UNAVAILABLE_DETAIL)
                break
        if foresight.learnt and (use is None or use.is_good or use.is_left):
            _guess(request, decisions, foresight.learnt.get(decisions.method, ()))
        return None


def _verify(request: HttpRequest, guard: Guard, decisions: Decisions) -> Use | None:
    presented = guard.wanted.presented(request.META)
    if decisions.outer is not None:
        is_decided, use = decisions.find(guard, presented)
        if is_decided:
            return use
    use = check(request, guard)
    decisions.add(guard, presented, use)
    return use


def _guess(request: HttpRequest, decisions: Decisions, guards: Iterable[Guard]) -> None:
    """Verify a good key that earlier requests were asked for. Whatever else is presented waits for the view."""
    for guard in guards:
        presented = guard.wanted.presented(request.META)
        is_decided, _ = decisions.find(guard, presented)
        if not is_decided:
            use = check(request, guard, is_guess=True)
            if use is not None:
                decisions.add(guard, presented, use)
                decisions.guesses.append(use)
                if not use.is_left:
                    return


def _done(response: HttpResponseBase, decisions: Decisions) -> HttpResponseBase:
    """Keep answers that depend on a key out of caches, and learn from what the view asked for."""
    decisions.is_concluded = True
    if not response.streaming:
        decisions.is_open = False
        _learn(response, decisions)
    # A file is left to the server, which may have a quicker way to send it.
    elif isinstance(response, StreamingHttpResponse) and getattr(response, "file_to_stream", None) is None:
        parts: Any = response.streaming_content
        response.streaming_content = (_answering_async if response.is_async else _answering)(parts, decisions)
    # The guards known before the view, and those that were called in it.
    guards = decisions.guards
    if decisions.nested:
        guards = [*guards, *(guard for _, nested in decisions.nested.values() for guard in nested.guards)]
    if guards:
        if response.status_code == 401:
            challenges = dict.fromkeys(challenge for guard in guards for challenge in guard.challenges)
            response.headers.setdefault("WWW-Authenticate", ", ".join(challenges))  # Ninja does not set it
        response["Cache-Control"] = "no-store"
        # Not every Django heeds that, and who came by another authenticator was asked for no key.
        decisions.keep_out_of_caches()
        patch_vary_headers(response, list(dict.fromkeys(header for guard in guards for header in guard.vary)))
    return response


def _learn(response: HttpResponseBase, decisions: Decisions) -> None:
    """Learn that a key was not asked for after all. An error may have come before the view could ask."""
    for guess in decisions.guesses:
        if not (guess.is_asked_for or guess.is_left) and response.status_code < 400 and decisions.foresight is not None:
            decisions.foresight.was_wrong(decisions.method, guess.guard)


def _conclude_refusal(request: HttpRequest, use: Use, response: HttpResponseBase) -> HttpResponseBase:
    """Record a refusal after the view's transaction, with its own status: the answer may be about several keys."""
    try:
        conclude(use, use.answer or use.status)
    except AuditUnavailable:
        return refusal(request, use.guard, 503, UNAVAILABLE_DETAIL)
    return response


def _conclude_without_answer(decisions: Decisions, status: int) -> None:
    decisions.is_open, decisions.is_concluded = False, True
    for use in decisions.unfinished():
        with suppress(AuditUnavailable):
            conclude(use, status if use.is_good else use.answer or use.status)


def _is_heard(use: Use) -> bool:
    """Tell whether a write after the answer would get into what the caller does next on the same connection."""
    return use.recorded is not None and statements.is_shared(use.recorded.place)


def _conclude_when_sent(request: HttpRequest, response: HttpResponseBase, use: Use, decisions: Decisions) -> None:
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
        # The parts of a streaming answer may have asked.
        _learn(response, decisions)

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
        _conclude_stream(use, status)


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
        # Under ASGI a client that leaves cancels this task.
        await asyncio.shield(sync_to_async(_conclude_stream)(use, status))


def _answering(parts: Iterator[bytes], decisions: Decisions) -> Iterator[bytes]:
    """Yield the parts, which are made after the middleware is left: changes to keys in them are the user's, too."""
    try:
        while True:
            token = actor.answered.set(decisions.answered)
            try:
                part = next(parts, None)
            finally:
                actor.answered.reset(token)
            if part is None:
                return
            yield part
    finally:
        if hasattr(parts, "close"):
            parts.close()


async def _answering_async(parts: AsyncIterator[bytes], decisions: Decisions) -> AsyncIterator[bytes]:
    try:
        while True:
            before = actor.answered.get()
            actor.answered.set(decisions.answered)
            try:
                part = await anext(parts, None)
            finally:
                actor.answered.set(before)
            if part is None:
                return
            yield part
    finally:
        if hasattr(parts, "aclose"):
            await parts.aclose()


def _conclude_stream(use: Use, status: int) -> None:
    conclude(use, status)
    if status == 500:
        # Under ASGI the response is not closed if its body raises. The thread would take its connection with it, which
        # a pool would miss for ever.
        for connection in connections.all(initialized_only=True):
            if not connection.in_atomic_block:
                connection.close_if_unusable_or_obsolete()
