"""Client for requests, with the extra `client`: a session that sends a service's key to that service only."""

import copy
import logging
import re
from typing import TYPE_CHECKING, Any, Self, cast
from urllib.parse import urlsplit

from .calling.introspection import PATH, Introspection, Memory, Question
from .calling.keychain import KeyChain, Secret, folder_of_caller

try:
    import requests
    import urllib3
except ImportError as error:
    raise ImportError("keys.client needs requests: install django-service-keys[client].") from error

if TYPE_CHECKING:
    from django.http import HttpRequest

HEADER = "X-API-Key"
LONGEST_RETRY_AFTER = 30  # seconds

logger = logging.getLogger(__name__)


class KeyRefused(requests.HTTPError):
    """The service answered 401. The text names the variable to check; `response` is the answer."""


def origin_of(url: str | None) -> tuple[str, str | None, int | None] | None:
    """Return scheme, host and port, as requests reads them to connect; None if the port is no number."""
    parts = urlsplit(url or "")
    try:
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None


class CarefulRetry(urllib3.Retry):
    """Retries GET and HEAD only, no read time-out, and nothing that asks for a long wait."""

    RETRY_AFTER_STATUS_CODES = frozenset()  # urllib3 would also retry a 429 or 413

    def increment(self, method: Any = None, *args: Any, **details: Any) -> Self:
        error, response = details.get("error"), details.get("response")
        if isinstance(error, urllib3.exceptions.ReadTimeoutError):
            raise error  # a retry would multiply the caller's wait for a slow service
        is_soon = response is None or (self.get_retry_after(response) or 0) <= LONGEST_RETRY_AFTER
        attempts = self if is_soon and method in ("GET", "HEAD") else self.new(total=0)  # urllib3 retries any method
        return super(CarefulRetry, attempts).increment(method, *args, **details)

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        try:
            return super().get_retry_after(response)
        except urllib3.exceptions.InvalidHeader:
            return None  # an invalid header is ignored


class APIKeySession(requests.Session):
    """A `requests.Session` for one service: `APIKeySession(config("AUTH_SERVICE_URL"), config("AUTH_API_KEY"))`.

    - A relative URL is joined to `base_url`, whose path is kept: with `https://host/v1/`, `users/7` and
      `/users/7` both mean `https://host/v1/users/7`. Absolute URLs may have any origin.
    - The key is sent in `X-API-Key`, to the origin (scheme, host, port) of `base_url` only. A redirect elsewhere drops
      it, even if it leads back. An `X-API-Key` of your own is replaced there, and removed for other origins.
    - `timeout`: seconds to connect, and to wait for data; `(None, None)` waits for ever.
    - `retries`: how often a GET or HEAD is repeated after a connection error, 502, 503 or 504, with growing pauses or
      as `Retry-After` asks (up to 30 s). The last answer is returned. A 429 and a read time-out are not retried.
    - A 401 from the origin raises `KeyRefused`, which names `variable`. Before that the next key is tried once, with
      any method, as nothing was done; if it works, it is kept. It is `next_key` ("" for none), or `<variable>_NEXT`,
      which decouple reads at that moment: from the environment, else from the `.env` in or above the working directory,
      else from the one in or above the folder of the file that made the session. Response hooks run after all that.

    Raises ValueError if `base_url` is no plain http(s) URL, or a key cannot be a header. A pickle holds the keys.
    """

    __attrs__ = [*requests.Session.__attrs__, "base_url", "timeout", "_origin", "_keys", "_bearer", "_memory"]
    _owns_connections = True

    def __init__(
        self, base_url: str, key: str | None = None, *, next_key: str | None = None, variable: str = "AUTH_API_KEY",
        timeout: float | tuple[float | None, float | None] = (3.05, 10.0), retries: int = 3,
    ) -> None:  # fmt: skip
        super().__init__()
        if not re.fullmatch(r"https?://[^?#@\s]+", base_url, re.IGNORECASE):
            raise ValueError("base_url must be like https://host or https://host/path, with no user and no query.")
        self.base_url, self.timeout = base_url.rstrip("/"), timeout
        self._origin = origin_of(requests.Request("GET", base_url).prepare().url)
        self._keys, self._bearer = KeyChain(key or "", next_key, variable, folder_of_caller()), Secret("")
        self._memory = Memory()
        policy = CarefulRetry(retries, status_forcelist=(502, 503, 504), backoff_factor=0.5, raise_on_status=False)
        for scheme in ("https://", "http://"):
            self.mount(scheme, requests.adapters.HTTPAdapter(max_retries=policy))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.base_url}>"

    def forward_user(self, request: "HttpRequest") -> "APIKeySession":
        """Return a session like this one that sends the user's JWT too, as `Authorization: Bearer`, to the origin only.

        The JWT is read from the request's `Authorization: Bearer`, else from its cookie `access_token`. Raises
        ValueError without either: a call meant for the user must not become the service's. A 401 that asks for
        `Bearer` concerns the user, and is returned. Connections and keys are shared with this session, cookies
        are not; it needs no closing.
        """
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        token = token if scheme.lower() == "bearer" else request.COOKIES.get("access_token", "")
        if not token.strip():
            raise ValueError("The request carries no user: neither Authorization: Bearer nor the cookie access_token.")
        session = copy.copy(self)
        for name in ("headers", "params", "proxies", "adapters"):
            setattr(session, name, type(getattr(self, name))(getattr(self, name)))
        session.hooks = {event: copy.copy(hooks) for event, hooks in self.hooks.items()}
        session.cookies = requests.cookies.RequestsCookieJar()
        session._bearer, session._owns_connections = Secret(f"Bearer {token.strip()}", "The user's JWT"), False
        return session

    def introspect(
        self, token: str, *, address: str | None = None, max_age: float = 0, path: str = PATH,
        request_id: str | None = None,
    ) -> Introspection:  # fmt: skip
        """Ask the service about a key that somebody has sent to us, as it was sent. This session's own key asks.

        `address` and `request_id` are those of whoever sent it: keys may be limited to networks, and the service's log
        names both. An answer that a key is active is remembered, and repeated to the same question for `max_age`
        seconds: so long a key goes on here that was ended there.

        Raises KeyRefused if our own key is refused, and another `requests.RequestException` if the service does not
        say whether the key is active. Nothing is repeated, and no redirect is followed.
        """
        question = Question(self.base_url, path, token, address, request_id)
        del token  # error reports show the variables of this frame
        if (known := self._memory.recall(question, max_age)) is not None:
            return known
        response = self.post(question.url, data=question.form, headers=question.headers, allow_redirects=False)
        try:
            answer = question.read(response.status_code, response.content)
        except ValueError as error:
            raise requests.HTTPError(str(error), response=response) from None
        self._memory.keep(question, answer, max_age)
        return answer

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        request, url = copy.copy(request), str(request.url)
        if not re.match(r"[a-z][a-z0-9+.-]*://", url, re.IGNORECASE):
            request.url = f"{self.base_url}/{url.lstrip('/')}"
        prepared = super().prepare_request(request)
        prepared.headers.pop(HEADER, None)
        if origin_of(prepared.url) == self._origin:
            credentials = {HEADER: self._keys.current, "Authorization": self._bearer}
            prepared.headers.update({name: value for name, value in credentials.items() if value})
        return prepared

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Called for each answer, followed or not. What is no address is an error of requests, as any other."""
        try:
            target: str | None = super().get_redirect_target(resp)
            urlsplit(target or "")
        except ValueError:
            resp.close()
            text = f"{self.base_url} answered {resp.status_code}, and leads to what is no address."
            raise requests.exceptions.InvalidURL(text, response=resp) from None
        return target

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Called for each redirect; requests itself would send X-API-Key to any host."""
        secrets = _pop_secrets(prepared_request)
        super().rebuild_auth(prepared_request, response)  # type: ignore[no-untyped-call] # bare in types-requests
        if origin_of(prepared_request.url) == self._origin:
            prepared_request.headers.update(secrets)
        elif secrets:
            logger.warning("A redirect left %s: the API key stayed behind.", self.base_url)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = kwargs.get("timeout") or self.timeout
        if origin_of(request.url) != self._origin:
            _pop_secrets(request)  # its URL was changed after `prepare_request`
        own = [hook for hook in request.hooks["response"] if hook != self._retry_refused]
        # Before the caller's own hooks, which may raise for a 401; set again for each redirect.
        request.hooks = {"response": [self._retry_refused, *own]}
        try:
            return super().send(request, **kwargs)
        except requests.RequestException as error:
            raise error.with_traceback(None) from None  # error reports show the frames below, which hold the key
        finally:
            request.hooks = {"response": own}

    def close(self) -> None:
        if self._owns_connections:
            super().close()

    def _retry_refused(self, response: requests.Response, **kwargs: Any) -> requests.Response:
        """Return the answer; for a refusal, the answer to the next key. Raises KeyRefused."""
        if not self._is_refusal(response):
            return response
        if not kwargs.get("stream"):
            _ = response.content  # read it all, so that the connection is reused
        request = response.request
        used = request.headers.get(HEADER)
        key = self._next_key(used, response) if used else None  # without a key: perhaps after a redirect
        if not key:
            raise self._refused(response, "the API key was refused" if used else "no API key was sent")
        request.headers[HEADER] = key  # for later redirects too
        retry = request.copy()
        retry.hooks = {"response": []}
        try:
            if not isinstance(cast(object, retry.body), str | bytes | None):
                requests.utils.rewind_body(retry)
        except requests.exceptions.UnrewindableBodyError:
            raise self._refused(response, "the API key was refused, and the body cannot be sent again") from None
        response.close()
        response = super().send(retry, allow_redirects=False, **kwargs)
        if self._is_refusal(response):
            raise self._refused(response, "both API keys were refused")
        self._keys.current, response.request = key, request
        return response

    def _next_key(self, used: str | bytes, response: requests.Response) -> Secret | None:
        try:
            return self._keys.after(used)
        except ValueError:
            raise self._refused(response, "the API key was refused, and the next one cannot be read") from None

    def _is_refusal(self, response: requests.Response) -> bool:
        about_user = self._bearer and response.headers.get("WWW-Authenticate", "").lower().startswith("bearer")
        return response.status_code == 401 and origin_of(response.url) == self._origin and not about_user

    def _refused(self, response: requests.Response, reason: str) -> KeyRefused:
        response.close()  # a streamed answer would hold its connection
        return KeyRefused(f"{self.base_url} answered 401: {reason}. {self._keys.advice}", response=response)


def _pop_secrets(request: requests.PreparedRequest) -> dict[str, Secret]:
    """Remove the key and the user's JWT from a request, and return them."""
    secrets = {name: value for name, value in request.headers.items() if isinstance(value, Secret)}
    for name in secrets:
        del request.headers[name]
    return secrets
