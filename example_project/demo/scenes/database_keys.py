"""System A: keys in the database guard the internal endpoints, and users come with a JSON Web Token."""

from datetime import timedelta

from django.utils import timezone

from example_project.demo.calls import Call, Caller, Scene, json_of
from example_project.demo.cast import NOBODY, STRANGER, Cast, with_jwt, with_key

MISSING = "Authentication credentials were not provided."
INVALID = "Invalid API key."
WHOAMI = "GET /api/v1/keys/whoami/"
BATCH = "POST /api/v1/tts/users-info/"
NO_ID = 999_999_999


def guarded(cast: Cast) -> Scene:
    """A user's details: one good key, and every way of being refused."""
    user = f"GET /api/v1/users/internal/{cast.id_of('demo-anna')}/"
    tts, partner = cast.tts_key, cast.partner_key
    expired = cast.new_key("Old-Laptop", expires_at=timezone.now() - timedelta(days=1))
    elsewhere = cast.new_key("Office-Only", allowed_ips=["203.0.113.0/24"])
    both = {"Authorization": f"Api-Key {tts.key}"}
    yield Call(with_key(tts), user, 200, {"username": "demo-anna"}, logged="used")
    yield Call(Caller("Authorization: Api-Key", both), user, 200, {"username": "demo-anna"}, logged="used")
    yield Call(Caller("one key, both headers", {"X-API-Key": tts.key, **both}), user, 200, logged="used")
    yield Call(Caller("two different keys", {"X-API-Key": partner.key, **both}), user, 400, logged="conflict")
    yield Call(NOBODY, user, 401, MISSING, headers={"WWW-Authenticate": 'Api-Key realm="api"'})
    yield Call(STRANGER, user, 401, INVALID, logged="unknown")
    yield Call(Caller("1000 characters", {"X-API-Key": "x" * 1000}), user, 401, INVALID, logged="malformed")
    yield Call(with_key(expired), user, 401, INVALID, logged="expired")
    yield Call(with_key(elsewhere), user, 401, INVALID, logged="address")
    yield Call(with_key(partner), user, 403, mentions="users:read", logged="scope")
    yield Call(with_key(tts), f"GET /api/v1/users/internal/{NO_ID}/", 404, logged="used")


def look_ups(cast: Cast) -> Scene:
    """Employees, the batch look-up, and a key's own details."""
    employee = f"GET /api/v1/hdts/employees/internal/{cast.sample.employees['demo-carla'].pk}/"
    anna, dan = cast.id_of("demo-anna"), cast.id_of("demo-dan")
    tts, hr = cast.tts_key, cast.new_key("HR-Portal", scopes=["employees:read"])
    yield Call(with_key(hr), employee, 200, {"employee_number": "DEMO-2"}, logged="used")
    yield Call(NOBODY, employee, 401, MISSING)
    yield Call(STRANGER, employee, 401, INVALID, logged="unknown")
    yield Call(with_key(hr), BATCH, 403, body={"ids": [anna]}, mentions="users:read", logged="scope")
    yield Call(NOBODY, BATCH, 401, MISSING, body={"ids": [anna]})
    found = {"missing": [NO_ID], "users": [{"id": dan}, {"id": anna}]}
    yield Call(with_key(tts), BATCH, 200, found, {"ids": [dan, anna, dan, NO_ID]}, logged="used")
    yield Call(with_key(tts), BATCH, 200, {"users": [], "missing": []}, {"ids": []}, logged="used")
    yield Call(with_key(tts), BATCH, 400, body={"ids": ["7"]}, logged="used")
    yield Call(with_key(tts), BATCH, 400, body={"ids": list(range(1, 502))}, logged="used")
    yield Call(with_key(tts), WHOAMI, 200, {"name": "TTS-Backend", "prefix": tts.prefix}, logged="used")
    yield Call(with_key(hr), WHOAMI, 200, {"scopes": ["employees:read"]}, logged="used")
    yield Call(NOBODY, WHOAMI, 401, MISSING)


def users(cast: Cast) -> Scene:
    """Users log in and see what is theirs; a key is no user."""
    anna, dan = cast.id_of("demo-anna"), cast.id_of("demo-dan")
    mine, dans, login = f"GET /api/v1/users/{anna}/", f"GET /api/v1/users/{dan}/", "POST /api/v1/auth/login/"
    yield Call(Caller("wrong password"), login, 401, body={"username": "demo-anna", "password": "wrong"})
    for name in ("demo-anna", "demo-carla"):
        body = {"username": name, "password": cast.sample.passwords[name]}
        answer = yield Call(Caller(name), login, 200, body=body, headers={"Set-Cookie": "HttpOnly"})
        cast.jwt[name] = str((json_of(answer) or {}).get("access_token"))
    bearer = {"Authorization": f"Bearer {cast.jwt['demo-anna']}"}
    yield Call(with_jwt(cast, "demo-anna"), mine, 200, {"username": "demo-anna"})
    yield Call(Caller("the same as Bearer", bearer), mine, 200, {"username": "demo-anna"})
    yield Call(with_jwt(cast, "demo-anna"), dans, 403)
    yield Call(with_jwt(cast, "demo-anna"), f"GET /api/v1/users/{NO_ID}/", 403)
    yield Call(with_jwt(cast, "demo-carla"), dans, 200, {"username": "demo-dan"})
    key = with_key(cast.tts_key)
    yield Call(NOBODY, mine, 401, MISSING)
    yield Call(key, mine, 401, MISSING)
    yield Call(Caller("JWT and an API key", {**key.headers, **bearer}), mine, 200, {"username": "demo-anna"})
    cast.set_active("demo-carla", False)
    yield "demo-carla is deactivated"
    try:
        yield Call(with_jwt(cast, "demo-carla"), dans, 401)
    finally:
        cast.set_active("demo-carla", True)
    yield Call(Caller("a browser"), "GET /admin/", 302, headers={"Location": "/admin/login/"})
    yield Call(Caller("a browser"), "GET /api/docs/", 200, mentions="/api/schema/")
    yield Call(Caller("a browser"), "GET /api/schema/", 200, mentions="X-API-Key")


def life_cycle(cast: Cast) -> Scene:
    """A key is limited, rotated with an overlap, and ended."""
    limited = with_key(cast.new_key("Exporter", rate="2/min"))
    yield Call(limited, WHOAMI, 200, {"name": "Exporter"}, logged="used")
    yield Call(limited, WHOAMI, 200, {"name": "Exporter"}, logged="used")
    yield Call(limited, WHOAMI, 429, headers={"Retry-After": ""}, logged="rate")
    old = cast.new_key("Billing")
    yield Call(with_key(old), WHOAMI, 200, {"prefix": old.prefix}, logged="used")
    old_caller = with_key(old)
    new = cast.remember(old.rotate(grace=timedelta(hours=1)))
    yield "Billing is rotated: the old key goes on for an hour"
    yield Call(old_caller, WHOAMI, 200, {"prefix": old.prefix}, logged="used")
    yield Call(with_key(new), WHOAMI, 200, {"prefix": new.prefix}, logged="used")
    newest = cast.remember(new.rotate(grace=timedelta(0)))
    yield "Billing is rotated again, with no grace: its predecessor ends at once"
    yield Call(with_key(new), WHOAMI, 401, INVALID, logged="expired")
    yield Call(with_key(newest), WHOAMI, 200, {"prefix": newest.prefix}, logged="used")
    newest_caller = with_key(newest)
    newest.is_active = False
    newest.save()
    yield "Billing is deactivated: the very next request is refused"
    yield Call(newest_caller, WHOAMI, 401, INVALID, logged="inactive")
