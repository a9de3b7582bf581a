"""The door that a service asks about a key which was presented to it: OAuth 2.0 Token Introspection (RFC 7662)."""

import logging
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from django.core.exceptions import BadRequest, ImproperlyConfigured, SuspiciousOperation
from django.core.files.uploadhandler import FileUploadHandler, SkipFile
from django.http import HttpRequest, JsonResponse, RawPostDataException, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase

from .. import credentials, moments
from ..audit.recording import AuditUnavailable
from ..authentication import ServicePrincipal
from ..keyrings import DatabaseKeyring, Holder, Keyring
from ..models.audit_event import INTROSPECTION
from ..networks import Address, parse_address
from ..redaction import MOST_PARTS
from ..tokens import Secret
from ..verification import UNAVAILABLE_DETAIL, Guard, Subject, check_for_other, conclude
from .doors import KeyView

logger = logging.getLogger("api_keys")

SCOPE = "keys:introspect"

# The first is that of the RFC. Many a tool sends the other.
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
_LONGEST_FORM = 65_536  # bytes; strangers could have longer ones decoded, as the caller's key is looked at afterwards
_LONGEST_ADDRESS = 100  # characters; parse_address remembers what it has read
_SCOPE_TOKEN = re.compile(r"[!#-\[\]-~]+")  # RFC 6749, 3.3: a blank would make two of one


@dataclass(slots=True)
class _Question:
    """What the form of a request asks, or what is wrong with it."""

    tokens: tuple[Secret, ...] = ()
    address: Address | None = None
    mistake: str = ""


class _NoFile(FileUploadHandler):
    """Passes over the files of a form, which could hold a key and be written to the disk."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        raise SkipFile

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None: ...

    def file_complete(self, file_size: int) -> None: ...


def _as_asked(request: HttpRequest) -> Subject:
    """Return what is to be masked in the caller's own row: a client may have written its key into other headers too."""
    return Subject(secrets=_question_in(request).tokens)


class IntrospectionView(KeyView):
    """Answers `POST token=...` of a service whose own key holds `keys:introspect` (RFC 7662, 2).

    `{"active": true, "scope", "client_id", "username", "sub", "iat", "exp"}`, or `{"active": false}` and no more. The
    token is looked for in `keyrings`. `address=...` is that of whoever presented the token: without it a key that is
    limited to networks is not active. Both uses are on record; the caller is the actor of the other's.
    """

    scopes = (SCOPE,)
    subject = _as_asked
    keyrings: ClassVar[tuple[Keyring, ...]] = (DatabaseKeyring(),)
    asked: ClassVar[Guard] = Guard()  # with these keyrings, made once

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        asked = Guard(keyrings=initkwargs.get("keyrings", cls.keyrings))
        view: Any = super().as_view(**{**initkwargs, "asked": asked})
        view.api_key_asked = asked
        answered: Callable[..., HttpResponseBase] = view
        return answered

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return super().dispatch(request, *args, **kwargs)
        finally:
            # Django mails what it knows of a request that is answered with 503.
            credentials.drop_form(request)

    def answer(self, request: HttpRequest, holder: Holder) -> HttpResponseBase:
        if request.method != "POST":
            response: HttpResponseBase = _error(405, "POST the token.")
            response["Allow"] = "POST"
            return response
        question = _question_in(request)
        if question.mistake:
            return _error(400, question.mistake)
        try:
            found = self._introspected(request, holder, question)
        except AuditUnavailable:
            found = None
        except ImproperlyConfigured:
            raise
        except Exception as error:
            # Of a keyring of the project's. Without its text, which may show the token.
            logger.error("A key that a service asks about cannot be checked: %s", type(error).__name__)
            found = None
        return self.refuse(request, 503, UNAVAILABLE_DETAIL) if found is None else JsonResponse(found)

    def _introspected(self, request: HttpRequest, caller: Holder, question: _Question) -> dict[str, Any] | None:
        """Return what the caller gets to know of the key; None if nobody can say now. Raises AuditUnavailable."""
        own = self.guard.wanted.read(request.META)
        known = {"actor": ServicePrincipal(caller).actor_name, "endpoint": INTROSPECTION + caller.name}
        subject = Subject(known=known, secrets=() if own is None else own.secrets)
        use = check_for_other(request, self.asked, question.tokens[0], question.address, subject)
        if use.status == 503:
            return None
        found = _described(use.holder) if use.holder is not None and use.is_good else {"active": False}
        conclude(use, use.status)
        return found


def _described(holder: Holder) -> dict[str, Any]:
    held: Any = holder.scopes
    # A value that is not a list has bypassed the validators. It grants nothing.
    named = [scope for scope in held if isinstance(scope, str)] if isinstance(held, list | tuple) else []
    found = {
        "active": True,
        "scope": " ".join(filter(_SCOPE_TOKEN.fullmatch, named)),
        "client_id": holder.prefix,
        "username": holder.name,
        "sub": getattr(holder, "owner_ref", "") or ServicePrincipal(holder).pk,
    }
    times = {"iat": getattr(holder, "created_at", None), "exp": getattr(holder, "expires_at", None)}
    return found | {name: _seconds(at) for name, at in times.items() if at is not None}


def _seconds(at: datetime) -> int:
    return int(moments.instant(at).timestamp())


def _question_in(request: HttpRequest) -> _Question:
    """Return what the form asks, which is then on the request no more. A form is read once. Raises nothing."""
    question: _Question | None = getattr(request, "api_key_question", None)
    if question is None:
        question = request.api_key_question = _question(request)  # type: ignore[attr-defined]
        credentials.drop_form(request)
    return question


def _question(request: HttpRequest) -> _Question:
    if request.method != "POST":
        return _Question()
    if request.content_type not in _FORMS:
        return _Question(mistake=f"Send the token as {_FORMS[0]}.")
    request.encoding = "utf-8"  # whatever else it is said to be in (RFC 6749, B)
    with suppress(AttributeError):  # a middleware has read the form
        request.upload_handlers = [_NoFile(request)]
    try:
        form = request.POST if _is_short(request) else None
    except (BadRequest, SuspiciousOperation, MultiPartParserError, UnreadablePostError, RawPostDataException):
        form = None
    if form is None:
        return _Question(mistake="The form is too long, or it cannot be read.")
    # What has no value counts as omitted, and whatever else is sent is ignored (RFC 6749, 3.2).
    sent = {name: [value for value in form.getlist(name) if value] for name in ("token", "token_type_hint", "address")}
    tokens = tuple(map(Secret, sent["token"][:MOST_PARTS]))
    if not tokens:
        return _Question(mistake="There is no token in the form.")
    if repeated := next((name for name, values in sent.items() if len(values) > 1), ""):
        return _Question(tokens, mistake=f"The form repeats {repeated}.")
    address = _address(sent["address"][0]) if sent["address"] else None
    if sent["address"] and address is None:
        return _Question(tokens, mistake="The address is no IP address.")
    return _Question(tokens, address)


def _is_short(request: HttpRequest) -> bool:
    length = request.META.get("CONTENT_LENGTH") or "0"
    is_told_short = length.isdecimal() and len(length) < 10 and int(length) <= _LONGEST_FORM
    # The length may be missing under ASGI.
    return is_told_short and len(request.body) <= _LONGEST_FORM


def _address(text: str) -> Address | None:
    return parse_address(text) if len(text) <= _LONGEST_ADDRESS else None


def _error(status: int, description: str) -> JsonResponse:
    """Return an error as RFC 6749, 5.2 has it."""
    return JsonResponse({"error": "invalid_request", "error_description": description}, status=status)
