"""Guarded requests, good and bad, and the rows that they leave in the log."""

from types import ModuleType

from django.test import Client

from keys.models import APIKey, AuditEvent

PATHS = ("/orders/", "/plain-orders/")


def client(world: ModuleType) -> Client:
    """Return a client that calls the world's host."""
    return Client(SERVER_NAME=getattr(world, "HOST", "testserver"), raise_request_exception=False)


def rows() -> list[tuple[str, str, int | None]]:
    return list(AuditEvent.objects.written().order_by("id").exclude(method="").values_list("event", "reason", "status"))


def ask(key: APIKey) -> int:
    """Return the status of a request with the key that was just made."""
    return Client(raise_request_exception=False).get("/orders/", headers={"X-API-Key": str(key.key)}).status_code


def accepted(world: ModuleType) -> None:
    """A good key opens each view, and each use is on record with its outcome."""
    key = APIKey.objects.create(name="good", scopes=["orders:read"], rate="1000/min")
    before = rows()
    for path in PATHS:
        answer = client(world).get(path, headers={"X-API-Key": key.key})
        assert (answer.status_code, answer.json()) == (200, {"for": "good"}), (path, answer.content)
        assert answer["Cache-Control"] == "no-store", path
    assert rows()[len(before) :] == [("used", "", 200)] * len(PATHS), rows()
    assert key.last_used_at is not None


def refused(world: ModuleType) -> None:
    """A missing key, a wrong one, an inactive one and one without the scope are told apart as in the contract."""
    inactive = APIKey.objects.create(name="inactive", scopes=["orders:read"], is_active=False)
    scopeless = APIKey.objects.create(name="scopeless", scopes=[])
    cases = [
        (None, 401, None),
        ("0" * 40, 401, ("refused", "unknown", 401)),
        ("x" * 129, 401, ("refused", "malformed", 401)),
        (str(inactive.key), 401, ("refused", "inactive", 401)),
        (str(scopeless.key), 403, ("refused", "scope", 403)),
    ]
    # Projects may show errors in another way: what the log says is ours.
    for path in PATHS:
        statuses = getattr(world, "OWN_STATUSES" if path == "/plain-orders/" else "STATUSES", {})
        for token, status, row in cases:
            before = rows()
            answer = client(world).get(path, headers={} if token is None else {"X-API-Key": token})
            shown = statuses.get(status, status)
            assert answer.status_code == shown, (path, token, answer.status_code, answer.content)
            recorded = [] if row is None else [(*row[:2], shown if row[1] == "scope" else row[2])]
            assert rows()[len(before) :] == recorded, (path, row, rows()[len(before) :])
