"""Users make keys for themselves and for their department, and take theirs along when they leave."""

from datetime import timedelta
from typing import Any

import requests
from django.utils import timezone

from example_project.demo.calls import Call, Caller, Scene, json_of
from example_project.demo.cast import Cast, with_jwt, with_key
from example_project.demo.scenes.database_keys import INVALID, MISSING, WHOAMI
from keys.models import APIKey
from keys.models.owners import ref_of

KEYS = "/api/v1/keys/"


def made_by_users(cast: Cast) -> Scene:
    """Anna makes a key by the API and calls with it; she leaves, and it is refused. Her department's key goes on."""
    bearer = Caller("Anna's JWT as Bearer", {"Authorization": f"Bearer {cast.jwt['demo-anna']}"})
    anna, department = ref_of(cast.sample.users["demo-anna"]), ref_of(cast.sample.employees["demo-anna"].department)
    user = f"GET /api/v1/users/internal/{cast.id_of('demo-dan')}/"
    wanted = _body("Anna-Laptop", "users:read", anna)
    yield Call(Caller("nobody"), f"POST {KEYS}", 401, MISSING, wanted)
    yield Call(with_jwt(cast, "demo-anna"), f"POST {KEYS}", 403, body=wanted, mentions="CSRF")
    yield Call(bearer, f"POST {KEYS}", 400, body=_body("Greedy", "tracking:write", anna), mentions="tracking:write")
    answer = yield Call(bearer, f"POST {KEYS}", 201, {"name": "Anna-Laptop", "scopes": ["users:read"]}, wanted)
    laptop, mine = _made(cast, answer)
    theirs = _body("Research-Pipeline", "employees:read", department)
    answer = yield Call(bearer, f"POST {KEYS}", 201, {"name": "Research-Pipeline"}, theirs)
    pipeline, _ = _made(cast, answer)
    yield Call(bearer, f"GET {mine}", 200, {"name": "Anna-Laptop", "owner": anna})
    yield Call(with_jwt(cast, "demo-carla"), f"GET {mine}", 404)
    yield Call(laptop, user, 200, {"username": "demo-dan"}, logged="used")
    yield Call(laptop, f"POST {KEYS}", 403, body=wanted, logged="used")
    cast.set_active("demo-anna", False)
    yield "demo-anna leaves the company: her account is deactivated, and nobody touches her key"
    try:
        yield Call(laptop, user, 401, INVALID, logged="owner")
        yield Call(bearer, f"POST {KEYS}", 401, body=wanted)
        yield Call(pipeline, WHOAMI, 200, {"name": "Research-Pipeline"}, logged="used")
    finally:
        cast.set_active("demo-anna", True)


def _body(name: str, scope: str, owner: str) -> dict[str, Any]:
    """Return what is sent to make a key. One that a killed run leaves behind ends by itself."""
    end = timezone.now() + timedelta(hours=1)
    return {"name": name, "scopes": [scope], "owner": owner, "expires_at": end.isoformat()}


def _made(cast: Cast, answer: requests.Response) -> tuple[Caller, str]:
    """Return a caller with the key of this answer, and the key's address; a stranger's if no key was made."""
    made = json_of(answer) or {}
    key = APIKey.objects.filter(pk=made["id"]).first() if "id" in made else None
    if key is None:
        return Caller("a key that was not made", {"X-API-Key": "none"}), f"{KEYS}0/"
    cast.remember(key)
    return Caller(with_key(key).label, {"X-API-Key": str(made.get("key"))}), f"{KEYS}{key.pk}/"
