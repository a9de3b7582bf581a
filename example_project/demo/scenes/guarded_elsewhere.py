"""Guarding what is not Django: nginx asks about each request, or a service asks about a key."""

from example_project.demo.calls import NGINX, TTS_BACKEND, Call, Caller, Scene
from example_project.demo.cast import NOBODY, STRANGER, Cast, with_key
from example_project.demo.scenes.database_keys import INVALID, MISSING

SCOPE = "keys:introspect"
ORDER = "GET /orders/7/"
ASK = "POST /api/v1/keys/introspect/"
VOICES = "GET /voices/"
AWAY = "API keys cannot be checked right now."


def behind_nginx(cast: Cast) -> Scene:
    """The service of orders sees good keys alone, and learns their names from nginx."""
    shop = cast.new_key("Shop", scopes=["orders:read"])
    slow = with_key(cast.new_key("Robot", scopes=["orders:read"], rate="2/min"))
    forged = {"X-Key-Name": "Boss", "X-Forwarded-Uri": "/harmless/", "X-Forwarded-For": "203.0.113.9"}
    seen = {"for": "Shop", "got_a_key": False}
    yield Call(with_key(shop), ORDER, 200, seen, logged="used", to=NGINX)
    yield Call(with_key(shop), "POST /orders/", 201, {"for": "Shop"}, {"of": "ink"}, logged="used", to=NGINX)
    yield Call(NOBODY, ORDER, 401, MISSING, headers={"WWW-Authenticate": "Api-Key"}, to=NGINX)
    yield Call(STRANGER, ORDER, 401, INVALID, logged="unknown", to=NGINX)
    yield Call(with_key(cast.partner_key), ORDER, 403, mentions="orders:read", logged="scope", to=NGINX)
    yield Call(Caller("Shop as Boss", {**with_key(shop).headers, **forged}), ORDER, 200, seen, logged="used", to=NGINX)
    yield Call(Caller("Boss without a key", forged), ORDER, 401, MISSING, to=NGINX)
    yield Call(slow, ORDER, 200, {"for": "Robot"}, logged="used", to=NGINX)
    yield Call(slow, ORDER, 200, {"for": "Robot"}, logged="used", to=NGINX)
    yield Call(slow, ORDER, 429, headers={"Retry-After": ""}, logged="rate", to=NGINX)
    caller = with_key(shop)
    shop.deactivate()
    yield "Shop is deactivated: the very next request is refused"
    yield Call(caller, ORDER, 401, INVALID, logged="inactive", to=NGINX)


def nobody_to_ask(cast: Cast) -> Scene:
    """The auth service is away: nothing is open."""
    yield "The auth service behind nginx is stopped"
    yield Call(with_key(cast.partner_key), ORDER, 503, AWAY, to=NGINX)


def introspection(cast: Cast) -> Scene:
    """The TTS backend has no keys of its own: it asks about those that are presented to it."""
    partner, gone = with_key(cast.partner_key), cast.new_key("Former-Partner")
    former = with_key(gone)
    gone.deactivate()
    yield Call(partner, ASK, 403, mentions=SCOPE, logged="scope")
    yield Call(partner, VOICES, 502, mentions="scope", logged="scope", to=TTS_BACKEND)
    cast.tts_key.scopes = [*cast.tts_key.scopes, SCOPE]
    cast.tts_key.save()
    yield f"The TTS backend may ask: its key gets the scope {SCOPE}"
    yield Call(partner, VOICES, 200, {"for": "Partner"}, logged="used used", to=TTS_BACKEND)
    yield Call(former, VOICES, 401, INVALID, logged="used inactive", to=TTS_BACKEND)
    yield Call(STRANGER, VOICES, 401, INVALID, logged="used unknown", to=TTS_BACKEND)
    yield Call(NOBODY, VOICES, 401, MISSING, to=TTS_BACKEND)
