"""The calling side, with the extra `client`: a requests session that hands a service's key to that service alone."""

import copy
import logging
import re
from typing import TYPE_CHECKING, Any, Self, cast
from urllib.parse import urlsplit

from .keychain import KeyChain, Secret, folder_of_caller

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
    """The service answered 401. The text names the variable to look at; `response` is the answer."""


def origin_of(url: str | None) -> tuple[str, str | None, int | None] | None:
    """Return scheme, host and port, read as requests reads them when it connects; None if the port is no number."""
    parts = urlsplit(url or "")
    try:
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None


class CarefulRetry(urllib3.Retry):
    """Repeats GET and HEAD alone, no time-out of the answer, and nothing that has to wait long."""

    RETRY_AFTER_STATUS_CODES = frozenset()  # urllib3 would also wait for the end of a 429 or 413

    def increment(self, method: Any = None, *args: Any, **details: Any) -> Self:
        error, response = details.get("error"), details.get("response")
        if isinstance(error, urllib3.exceptions.ReadTimeoutError):
            raise error  # slow is not broken: repeating it would multiply the caller's wait
        patient = response is None or (self.get_retry_after(response) or 0) <= LONGEST_RETRY_AFTER
        attempts = self if patient and method in ("GET", "HEAD") else self.new(total=0)  # urllib3 repeats any method
        return super(CarefulRetry, attempts).increment(method, *args, **details)

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        try:
            return super().get_retry_after(response)
        except urllib3.exceptions.InvalidHeader:
            return None  # a header that nobody can read asks for nothing


class APIKeySession(requests.Session):
    """A `requests.Session` for one service: `APIKeySession(config("AUTH_SERVICE_URL"), config("AUTH_API_KEY"))`.

    - A relative URL goes behind `base_url`, whose path stays: with `https://host/v1/`, `users/7` and `/users/7` both
      mean `https://host/v1/users/7`. Absolute URLs may lead anywhere.
    - The key goes in `X-API-Key` to the origin (scheme, host, port) of `base_url` only. A redirect elsewhere loses it,
      even when it leads back. An `X-API-Key` of your own is replaced there, and taken off everywhere else.
    - `timeout`: seconds to connect, and to wait for data; `(None, None)` waits for ever.
    - `retries`: repeats of a GET or HEAD, with growing pauses or as `Retry-After` asks (up to 30 s), after a connection
      error, 502, 503 or 504. The last answer is returned. Neither a 429 nor a wait for data that was too long is one.
    - A 401 from the origin raises `KeyRefused`, which names `variable`. First the next key is tried once, with any
      method, as nothing was done; if it works, it stays. It is `next_key` ("" for none), or `<variable>_NEXT`, which
      decouple reads at that moment: from the environment, else from the `.env` in or above the working directory,
      else from the one in or above the folder of the file that made the session. Response hooks come after all that.

    ValueError: `base_url` is no plain http(s) URL, or a key cannot be a header. A pickle of the session holds the keys.
    """

    __attrs__ = [*requests.Session.__attrs__, "base_url", "timeout", "_origin", "_keys", "_bearer"]
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
        policy = CarefulRetry(retries, status_forcelist=(502, 503, 504), backoff_factor=0.5, raise_on_status=False)
        for scheme in ("https://", "http://"):
            self.mount(scheme, requests.adapters.HTTPAdapter(max_retries=policy))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.base_url}>"

    def forward_user(self, request: "HttpRequest") -> "APIKeySession":
        """Return a session like this one that sends the user's JWT too, as `Authorization: Bearer`, to the origin only.

        Taken from the request's `Authorization: Bearer`, else its cookie `access_token`. ValueError if it has neither:
        a call meant for the user must not become the service's. A 401 that asks for `Bearer` is about the user, and so
        returned. Connections and keys are shared with this session, cookies are not; it needs no closing.
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

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Called at each redirect, where requests itself would pass X-API-Key on to any host."""
        secrets = _taken_from(prepared_request)
        super().rebuild_auth(prepared_request, response)  # type: ignore[no-untyped-call] # bare in types-requests
        if origin_of(prepared_request.url) == self._origin:
            prepared_request.headers.update(secrets)
        elif secrets:
            logger.warning("A redirect left %s: the API key stayed behind.", self.base_url)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = kwargs.get("timeout") or self.timeout
        if origin_of(request.url) != self._origin:
            _taken_from(request)  # its address was changed after `prepare_request`
        own = [hook for hook in request.hooks["response"] if hook != self._answered]
        # Before the caller's own hooks, which may raise an error of each 401, and again for each redirect.
        request.hooks = {"response": [self._answered, *own]}
        try:
            return super().send(request, **kwargs)
        except requests.RequestException as error:
            raise error.with_traceback(None) from None  # the frames below hold the key, and error reports show them
        finally:
            request.hooks = {"response": own}

    def close(self) -> None:
        if self._owns_connections:
            super().close()

    def _answered(self, response: requests.Response, **kwargs: Any) -> requests.Response:
        """Return the answer, or that to the next key where it is a refusal. Raises KeyRefused."""
        if not self._is_refusal(response):
            return response
        if not kwargs.get("stream"):
            _ = response.content  # read to its end, so that its connection serves the next call
        request = response.request
        used = request.headers.get(HEADER)
        key = self._next_key(used, response) if used else None  # without one, a redirect may have led here
        if not key:
            raise self._refused(response, "the API key was refused" if used else "no API key was sent")
        request.headers[HEADER] = key  # for redirects from here on, too
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
        response.close()  # a streamed answer would keep its connection
        return KeyRefused(f"{self.base_url} answered 401: {reason}. {self._keys.advice}", response=response)


def _taken_from(request: requests.PreparedRequest) -> dict[str, Secret]:
    """Take the key and the user's JWT off a request, and return them."""
    secrets = {name: value for name, value in request.headers.items() if isinstance(value, Secret)}
    for name in secrets:
        del request.headers[name]
    return secrets
