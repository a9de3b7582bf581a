"""Who may use which of system C's five APIs, over HTTP: each kind of key under each state of the environment."""

from dataclasses import dataclass
from typing import Any

import pytest
import requests
from pytest_django.live_server_helper import LiveServer

from example_project.tracking.models import Link
from keys.models import APIKey, AuditEvent

pytestmark = pytest.mark.django_db(transaction=True)

SHARED = "shared-webhook-key-of-32-characters-or-more"
DEDICATED = "dedicated-ingest-key-of-32-characters-or-more"

CLICKS = [{"click_id": "0" * 32, "link": "promo", "clicked_at": "2026-03-01T12:00:00Z"}]
INGEST: list[tuple[str, str, Any, int]] = [
    ("POST", "/api/tracking-ingest/test", None, 200),
    ("POST", "/api/tracking-ingest/batch", {"clicks": CLICKS}, 200),
    ("GET", "/api/tracking-ingest/no/such%0Apath", None, 404),
    ("DELETE", "/api/tracking-ingest/", None, 404),
]
OTHERS: list[tuple[str, str, Any, int]] = [
    ("GET", "/api/link-tracking/links", None, 200),
    ("POST", "/api/link-tracking/links", {"slug": "autumn", "url": "https://example.com"}, 201),
    ("GET", "/api/link-tracking/links/promo", None, 404),
    ("GET", "/api/analyze/clicks", None, 200),
    ("POST", "/api/analyze/no/such%0Apath", None, 404),
    ("GET", "/api/db/records", None, 200),
    ("POST", "/api/db/records", {"name": "limits", "data": {}}, 201),
    ("PUT", "/api/db/", None, 404),
    ("POST", "/api/automation/run", {"name": "nightly report"}, 201),
    ("OPTIONS", "/api/automation/run/", None, 404),
]


@dataclass(frozen=True)
class Environment:
    shared: str = SHARED
    dedicated: str = DEDICATED
    allow_shared: str = "true"

    def opens_ingest(self, caller: str) -> int | None:
        """The status of a refusal on the tracking ingest, or None."""
        if caller == "database key to write" or (caller == "dedicated key" and self.dedicated):
            return None
        if caller == "shared key" and self.shared and self.allow_shared == "true":
            return None
        return 403 if caller == "database key to read" else 401

    def opens_others(self, caller: str) -> int | None:
        """The status of a refusal on the other four APIs, or None."""
        if not self.shared:
            return 503
        return None if caller == "shared key" else 401


ENVIRONMENTS = {
    "transition": Environment(),
    "transition ended": Environment(allow_shared="false"),
    "shared key alone": Environment(dedicated=""),
    "shared key alone, not allowed": Environment(dedicated="", allow_shared="false"),
    "dedicated key alone": Environment(shared=""),
    "nothing set": Environment(shared="", dedicated=""),
}
NAMES = {
    "shared key": "env:WEBHOOK_API_KEY",
    "dedicated key": "env:TRACKING_INGEST_API_KEY",
    "database key to write": "third party",
    "database key to read": "third party",
}


def headers_of(caller: str) -> dict[str, str]:
    match caller:
        case "nobody":
            return {}
        case "stranger":
            return {"X-API-Key": "0" * 40}
        case "shared key":
            return {"X-API-Key": SHARED}
        case "dedicated key":
            return {"X-API-Key": DEDICATED}
    scope = "tracking:write" if caller == "database key to write" else "users:read"
    return {"X-API-Key": APIKey.objects.create(name="third party", scopes=[scope]).key}


@pytest.mark.parametrize("state", ENVIRONMENTS)
@pytest.mark.parametrize("caller", ["nobody", "stranger", *NAMES])
def test_access(live_server: LiveServer, monkeypatch: pytest.MonkeyPatch, state: str, caller: str) -> None:
    environment = ENVIRONMENTS[state]
    monkeypatch.setenv("WEBHOOK_API_KEY", environment.shared)
    monkeypatch.setenv("TRACKING_INGEST_API_KEY", environment.dedicated)
    monkeypatch.setenv("TRACKING_INGEST_ALLOW_SHARED_KEY", environment.allow_shared)
    Link.objects.create(slug="promo", url="https://example.com/promo")
    headers = headers_of(caller)
    for calls, refusal in ((INGEST, environment.opens_ingest(caller)), (OTHERS, environment.opens_others(caller))):
        for method, path, body, status in calls:
            response = requests.request(method, live_server.url + path, headers=headers, json=body, timeout=60)
            assert (path, response.status_code) == (path, refusal or status)
            if refusal == 401:
                missing = caller == "nobody" and calls is INGEST
                detail = "Authentication credentials were not provided." if missing else "Invalid API key."
                assert response.json() == {"detail": detail}
            elif refusal == 503:
                assert response.json() == {"detail": "API key not configured"}
            elif refusal is None and path.endswith("/test"):
                assert response.text == ('{"success":true,"message":"API connection successful","authenticated":true}')
    used = AuditEvent.objects.filter(event="used")
    assert set(used.values_list("key_name", flat=True)) <= {NAMES.get(caller)}


@pytest.mark.parametrize(("presented", "name"), [(SHARED, NAMES["shared key"]), (DEDICATED, NAMES["dedicated key"])])
def test_audit_log_says_which_key_it_was(
    live_server: LiveServer, monkeypatch: pytest.MonkeyPatch, presented: str, name: str
) -> None:
    monkeypatch.setenv("WEBHOOK_API_KEY", SHARED)
    monkeypatch.setenv("TRACKING_INGEST_API_KEY", DEDICATED)
    monkeypatch.setenv("TRACKING_INGEST_ALLOW_SHARED_KEY", "true")
    requests.post(f"{live_server.url}/api/tracking-ingest/test", headers={"X-API-Key": presented}, timeout=60)
    event = AuditEvent.objects.get()
    assert (event.event, event.key_name, event.key_prefix, event.path) == (
        "used",
        name,
        "",
        "/api/tracking-ingest/test",
    )
