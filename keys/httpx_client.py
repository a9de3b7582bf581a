"""The calling side for httpx, with the extra `httpx`: `httpx.AsyncClient(base_url=url, auth=APIKeyAuth(url, key))`."""

from collections.abc import Generator
from pathlib import Path

from decouple import AutoConfig

try:
    import httpx
except ImportError as error:
    raise ImportError("keys.httpx_client needs httpx: install django-service-keys[httpx].") from error


class KeyRefused(httpx.HTTPStatusError):
    """The service answered 401. The text names the variable to look at; `response` is the answer."""


class APIKeyAuth(httpx.Auth):
    """Sends the key to the origin of `base_url` alone, and the next one when it is refused, as `keys.client` does.

    It goes in `Authorization: Api-Key`, which httpx takes off when a redirect leads to another origin; X-API-Key would
    stay. It stays too from http to https on the same host and the usual ports. Time-outs and retries are httpx's own.
    """

    requires_request_body = True  # so that a stream can be sent again

    def __init__(self, base_url: str, key: str, *, next_key: str | None = None, variable: str = "AUTH_API_KEY") -> None:
        self._url, self._variable, self._next_key = httpx.URL(base_url), variable, next_key
        self._key = self._checked(key)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if not self._is_ours(request.url):
            yield request
            return
        used = self._key
        request.headers["Authorization"] = f"Api-Key {used}"
        response = yield request
        # What was redirected may have been acted upon, so it is not sent again.
        other = self._after(used) if self._is_refusal(response) and not response.history else ""
        if other:
            request.headers["Authorization"] = f"Api-Key {other}"
            response = yield request
        if self._is_refusal(response):
            used = other = ""  # error reports show the variables of this frame
            text = f"{self._url} answered 401. Look at {self._variable} and {self._variable}_NEXT."
            raise KeyRefused(text, request=request, response=response)
        self._key = other or self._key

    def _is_ours(self, url: httpx.URL) -> bool:
        return (url.scheme, url.netloc) == (self._url.scheme, self._url.netloc)

    def _is_refusal(self, response: httpx.Response) -> bool:
        return response.status_code == 401 and self._is_ours(response.url)

    def _after(self, used: str) -> str:
        next_key = self._next_key
        if next_key is None:
            next_key = AutoConfig(search_path=Path.cwd())(f"{self._variable}_NEXT", default="")
        return next((key for key in (self._key, self._checked(next_key)) if key != used), "")

    def _checked(self, key: str) -> str:
        if not (key.strip().isascii() and key.strip().isprintable()):
            raise ValueError(f"{self._variable} holds characters that an HTTP header cannot carry.")
        return key.strip()
