"""What is owed to the log when an answer says that nobody was accepted.

A key that was left to other authenticators is refused then. An older authenticator before ours may have refused the
request because of our key, which our guard was never asked about: so it is asked now.
"""

from contextlib import nullcontext
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.functional import LazyObject, empty

from ..audit import places
from ..verification import Use, check
from ..verification.decisions import Decisions


def is_unauthenticated(response: HttpResponseBase) -> bool:
    """Tell whether the answer is 401, or the 403 that Django REST framework makes of it.

    It does so where the first authenticator, such as SessionAuthentication, has no challenge.
    """
    if response.status_code != 403:
        return response.status_code == 401
    data: Any = getattr(response, "data", None)
    detail = data.get("detail") if isinstance(data, dict) else None
    return getattr(detail, "code", "") in {"authentication_failed", "not_authenticated"}


def settle(request: HttpRequest, response: HttpResponseBase, decisions: Decisions) -> bool:
    """Refuse one key that was left, or decide about one that no guard was asked about, if nobody was accepted.

    Does nothing if a key has its row already. What remains to be written is then among the unfinished uses. Returns
    False if the key cannot be checked now.
    """
    uses = [use for _, _, use in decisions.made if use is not None]
    if any(not use.is_left for use in uses) or _is_accepted(request):
        return True
    for use in _decided_late(request, decisions):
        if not use.is_left:
            # One guard did not know the key, and this one does.
            for left in uses:
                left.answer = 0
            return not use.is_unavailable
        uses.append(use)
    if not any(use.answer for use in uses):
        asked = (use for use in uses if use.is_asked_for or not any(use is guess for guess in decisions.guesses))
        if (refused := next(asked, None)) is not None:
            refused.answer = response.status_code
    return True


def _decided_late(request: HttpRequest, decisions: Decisions) -> list[Use]:
    """Decide about the keys of guards that the view declares and was not asked by; up to the first that is known."""
    late: list[Use] = []
    with nullcontext() if decisions.place is None else places.at(decisions.place):
        for guard in decisions.guards:
            presented = guard.wanted.presented(request.META)
            if guard.wanted.read(presented) is None or decisions.find(guard, presented)[0]:
                continue
            if (use := check(request, guard, leaves=True)) is not None:
                decisions.add(guard, presented, use)
                late.append(use)
                if not use.is_left:
                    break
    return late


def _is_accepted(request: HttpRequest) -> bool:
    """Tell whether another authenticator has accepted the request. What nobody has read is not read now.

    Whoever decides about a user sets `auth`, if only to None. Without it the user is that of a session that was asked
    by nobody, and perhaps read by a middleware.
    """
    if not hasattr(request, "auth"):
        return False
    user = getattr(request, "user", None)
    if isinstance(user, LazyObject) and user._wrapped is empty:
        user = None
    return request.auth is not None or bool(getattr(user, "is_authenticated", False))
