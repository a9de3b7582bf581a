"""Client for httpx, with the extra `httpx`: `httpx.AsyncClient(base_url=url, auth=APIKeyAuth(url, key))`."""

from collections.abc import Generator

from .calling.keychain import KeyChain, folder_of_caller

try:
    import httpx
except ImportError as error:
    raise ImportError("keys.httpx_client needs httpx: install django-service-keys[httpx].") from error


class KeyRefused(httpx.HTTPStatusError):
    """The service answered 401. The text names the variable to check; `response` is the answer."""


class APIKeyAuth(httpx.Auth):
    """Sends the key to the origin of `base_url` only, and the next key if it is refused, as `keys.client` does.

    It uses `Authorization: Api-Key`, which httpx removes on a redirect to another origin; it would keep X-API-Key.
    It also keeps the key from http to https on the same host with the default ports. Time-outs and retries are
    httpx's own: 5 s for each step, and no retry unless `httpx.HTTPTransport(retries=3)` asks for it, of connecting
    only. A response hook that raises for a 401 runs before the next key is tried. Raises ValueError if a key cannot
    be a header.
    """

    requires_request_body = True  # to send a stream again

    def __init__(self, base_url: str, key: str, *, next_key: str | None = None, variable: str = "AUTH_API_KEY") -> None:
        self._url = httpx.URL(base_url)
        self._keys = KeyChain(key, next_key, variable, folder_of_caller())

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if not self._is_own_origin(request.url):
            yield request
            return
        used = self._keys.current
        response = yield _with_key(used, request)
        key, reason = None, "the API key was refused" if used else "no API key was sent"
        # A redirected request may have been processed, so it is not sent again.
        if used and self._is_refusal(response) and not response.history:
            try:
                key = self._keys.after(used)
            except ValueError:
                reason += ", and the next one cannot be read"
        if key:
            response, reason = (yield _with_key(key, request)), "both API keys were refused"
        if self._is_refusal(response):
            text = f"{self._url} answered 401: {reason}. {self._keys.advice}"
            raise KeyRefused(text, request=request, response=response)
        self._keys.current = key or self._keys.current

    def _is_own_origin(self, url: httpx.URL) -> bool:
        return (url.scheme, url.netloc) == (self._url.scheme, self._url.netloc)

    def _is_refusal(self, response: httpx.Response) -> bool:
        return response.status_code == 401 and self._is_own_origin(response.url)


def _with_key(key: str, request: httpx.Request) -> httpx.Request:
    if key:
        request.headers["Authorization"] = f"Api-Key {key}"
    return request
