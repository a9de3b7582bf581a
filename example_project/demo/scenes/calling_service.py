"""The TTS backend, a service of its own, calls the auth service through `keys.client`."""

from datetime import timedelta
from pathlib import Path

from example_project.demo.calls import TTS_BACKEND, Call, Caller, Job, Scene
from example_project.demo.cast import Cast, with_jwt

CLIENT = Caller("a client of TTS")
DOWNSTREAM = "example_project.downstream.settings"
ME = "GET /me/"
NO_ID = 999_999_999


def calls_on(cast: Cast, dotenv: Path) -> Scene:
    """It looks users up with its own key, and forwards its user's JWT. `dotenv` is the file that it reads."""
    anna = cast.id_of("demo-anna")
    hello = {"greetings": {str(anna): "Hello Anna Berg."}, "unknown": [NO_ID]}
    yield Call(CLIENT, f"GET /greetings/?user={anna}&user={NO_ID}", 200, hello, logged="used", to=TTS_BACKEND)
    yield Call(CLIENT, ME, 401, headers={"WWW-Authenticate": "Bearer"}, to=TTS_BACKEND)
    yield Call(with_jwt(cast, "demo-anna"), ME, 200, {"username": "demo-anna"}, to=TTS_BACKEND)
    forged = Caller("a forged JWT", {"Authorization": f"Bearer {cast.jwt['demo-anna'][:-4]}AAAA"})
    yield Call(forged, ME, 401, to=TTS_BACKEND)
    cast.tts_key = cast.remember(cast.tts_key.rotate(grace=timedelta(0)))
    dotenv.write_text(f"AUTH_API_KEY_NEXT={cast.tts_key.key}\n")
    yield "Its key is rotated with no grace; the new one goes to its .env as AUTH_API_KEY_NEXT; no restart"
    yield _greeting(cast, 200, "Hello Anna Berg.", logged="expired used")
    yield Job("a job of TTS", ("announce", str(anna)), "Hello Anna Berg.", logged="expired used")


def after_a_restart(cast: Cast) -> Scene:
    """The auth service has been restarted meanwhile."""
    yield _greeting(cast, 200, "Hello Anna Berg.", logged="used")


def key_ended(cast: Cast) -> Scene:
    """A key that is refused is an error that says where to look."""
    cast.tts_key.deactivate()
    yield "Its key is deactivated"
    yield _greeting(cast, 502, "AUTH_API_KEY", logged="inactive")


def auth_service_down(cast: Cast) -> Scene:
    """The auth service is gone."""
    yield "The auth service is stopped"
    yield _greeting(cast, 503, "AUTH_SERVICE_URL")


def _greeting(cast: Cast, status: int, mentions: str, logged: str = "") -> Call:
    request = f"GET /greetings/?user={cast.id_of('demo-anna')}"
    return Call(CLIENT, request, status, mentions=mentions, logged=logged, to=TTS_BACKEND)
