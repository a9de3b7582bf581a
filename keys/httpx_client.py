"""Client for httpx, with the extra `httpx`: `httpx.AsyncClient(base_url=url, auth=APIKeyAuth(url, key))`."""

from collections.abc import Generator

from .calling.introspection import PATH, Introspection, Memory, Question
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
        self._memory = Memory()

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


def introspect(
    client: httpx.Client, token: str, *, address: str | None = None, max_age: float = 0, path: str = PATH,
    request_id: str | None = None,
) -> Introspection:  # fmt: skip
    """Ask the service of the client's `APIKeyAuth` about a key that somebody has sent to us, as it was sent.

    `address` and `request_id` are those of whoever sent it: keys may be limited to networks, and the service's log
    names both. An answer that a key is active is remembered, and repeated to the same question for `max_age` seconds:
    so long a key goes on here that was ended there. `path` is below the `base_url` of `APIKeyAuth`.

    Raises KeyRefused if the client's own key is refused, and another `httpx.HTTPError` if the service does not say
    whether the key is active. Nothing is repeated, and no redirect is followed. Raises TypeError if the client has
    no `APIKeyAuth`.
    """
    auth = _auth_of(client)
    question = Question(str(auth._url), path, token, address, request_id)
    del token  # error reports show the variables of this frame
    if (known := auth._memory.recall(question, max_age)) is not None:
        return known
    try:
        response = client.post(question.url, content=question.form, headers=question.headers, follow_redirects=False)
    except httpx.HTTPError as error:
        raise error.with_traceback(None) from None  # nor the frames below, which hold what was sent
    return _answered(auth, question, response, max_age)


async def aintrospect(
    client: httpx.AsyncClient, token: str, *, address: str | None = None, max_age: float = 0, path: str = PATH,
    request_id: str | None = None,
) -> Introspection:  # fmt: skip
    """Ask as `introspect` does, with an async client."""
    auth = _auth_of(client)
    question = Question(str(auth._url), path, token, address, request_id)
    del token
    if (known := auth._memory.recall(question, max_age)) is not None:
        return known
    try:
        response = await client.post(
            question.url, content=question.form, headers=question.headers, follow_redirects=False
        )
    except httpx.HTTPError as error:
        raise error.with_traceback(None) from None
    return _answered(auth, question, response, max_age)


def _auth_of(client: httpx.Client | httpx.AsyncClient) -> APIKeyAuth:
    if not isinstance(client.auth, APIKeyAuth):
        raise TypeError("The client that asks about a key is made with auth=APIKeyAuth(url, key).")
    return client.auth


def _answered(auth: APIKeyAuth, question: Question, response: httpx.Response, max_age: float) -> Introspection:
    try:
        answer = question.read(response.status_code, response.content)
    except ValueError as error:
        raise httpx.HTTPStatusError(str(error), request=response.request, response=response) from None
    auth._memory.keep(question, answer, max_age)
    return answer
