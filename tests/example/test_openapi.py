"""The example's documentation of itself: valid, true, and served without anybody else's server."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from django.contrib.auth.models import User
from django.contrib.staticfiles.finders import find
from django.core.management import call_command
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pytest_django.fixtures import Settings
from rest_framework_simplejwt.tokens import AccessToken
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from example_project.wsgi import application
from keys.models import APIKey

INTERNAL, SHARED, DEDICATED = ("internal" * 5, "shared" * 6, "dedicated" * 4)
KEYS: Any = [{"APIKeyAuthentication": []}, {"APIKeyAuthenticationInAuthorization": []}]
SHARED_KEY: Any = [{"SharedKeyAuthentication": []}]
INGEST_KEY: Any = [{"TrackingIngestAuthentication": []}]
JWT: Any = [{"jwtCookie": []}, {"jwtAuth": []}]
USER: Any = [*JWT, {"cookieAuth": []}]
CSRF_TOKEN = "c" * 32


def schema() -> dict[str, Any]:
    return SchemaGenerator(urlconf="example_project.urls").get_schema(public=True)  # type: ignore[no-any-return, no-untyped-call]


def operations() -> list[Any]:
    loaded: Any = schemathesis.openapi.from_dict(schema())
    loaded.app = application
    # The test brings its own credentials.
    loaded.config.generation.update(with_security_parameters=False)
    return [result.ok() for result in loaded.get_all_operations()]


@pytest.fixture(autouse=True)
def example(monkeypatch: pytest.MonkeyPatch, settings: Settings, with_owners: None) -> None:
    settings.ALLOWED_HOSTS = ["localhost", "testserver"]
    monkeypatch.setenv("INTERNAL_API_KEY", INTERNAL)
    monkeypatch.setenv("WEBHOOK_API_KEY", SHARED)
    monkeypatch.setenv("TRACKING_INGEST_API_KEY", DEDICATED)


@pytest.fixture
def kept_connection() -> Iterator[None]:
    """Keep the connection, with the transaction of the test, through requests that do not come from Django's client."""
    ends = [request_started, request_finished]
    for end in ends:
        end.disconnect(close_old_connections)
    yield
    for end in ends:
        end.connect(close_old_connections)


@pytest.mark.matrix
def test_it_is_valid_and_nothing_was_left_to_guesses(tmp_path: Path) -> None:
    file = str(tmp_path / "schema.yml")
    call_command("spectacular", "--validate", "--fail-on-warn", "--urlconf", "example_project.urls", "--file", file)


def test_each_operation_names_what_opens_it() -> None:
    security = {
        f"{method.upper()} {path}": operation.get("security")
        for path, methods in schema()["paths"].items()
        for method, operation in methods.items()
    }
    assert security == {
        "GET /api/v1/users/internal/{id}/": KEYS,
        "GET /api/v1/hdts/employees/internal/{id}/": KEYS,
        "POST /api/v1/tts/users-info/": KEYS,
        "GET /api/v1/keys/whoami/": KEYS,
        "GET /api/v1/users/{id}/": JWT,
        "GET /api/v1/departments/": [*USER, *KEYS],
        "GET /api/v1/keys/": USER,
        "POST /api/v1/keys/": USER,
        "GET /api/v1/keys/{id}/": USER,
        "PATCH /api/v1/keys/{id}/": USER,
        "POST /api/v1/keys/{id}/rotate/": USER,
        "POST /api/v1/keys/{id}/deactivate/": USER,
        "GET /api/v1/keys/{id}/usage/": USER,
        "POST /api/v1/auth/login/": None,
        "GET /_internal/jobs": [{"InternalAPIAuthentication": []}],
        "POST /api/tracking-ingest/test": INGEST_KEY,
        "POST /api/tracking-ingest/batch": INGEST_KEY,
        "GET /api/link-tracking/links": SHARED_KEY,
        "POST /api/link-tracking/links": SHARED_KEY,
        "GET /api/analyze/clicks": SHARED_KEY,
        "GET /api/db/records": SHARED_KEY,
        "POST /api/db/records": SHARED_KEY,
        "POST /api/automation/run": SHARED_KEY,
    }


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/api/schema/", "/api/docs/"])
def test_it_is_open_to_everybody(client: Client, path: str) -> None:
    assert client.get(path, headers={"X-API-Key": "wrong"}).status_code == 200


def test_its_page_loads_nothing_from_elsewhere(client: Client) -> None:
    page = client.get("/api/docs/").text
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(loaded) >= 3
    assert [address for address in loaded if not find(address.removeprefix("/static/"))] == []
    assert re.findall("https?://", page) == []


def ways_to_open(operation: Any, secrets: dict[str, str]) -> list[dict[str, dict[str, str]]]:
    """Return what to send along for each of the schemes that an operation names, as the schemes themselves say."""
    ways, schemes = [], schema()["components"]["securitySchemes"]
    for name in [name for requirement in operation.definition.raw.get("security", []) for name in requirement]:
        if schemes[name]["type"] == "http":
            ways.append({"headers": {"Authorization": f"{schemes[name]['scheme'].capitalize()} {secrets[name]}"}})
        elif schemes[name]["in"] == "cookie":
            cookies = {schemes[name]["name"]: secrets[name], "csrftoken": CSRF_TOKEN}
            ways.append({"cookies": cookies, "headers": {"X-CSRFToken": CSRF_TOKEN}})
        else:
            ways.append({"headers": {schemes[name]["name"]: secrets[name]}})
    return ways


@pytest.mark.django_db
@pytest.mark.parametrize("operation", operations(), ids=lambda operation: str(operation.label))
def test_it_is_true_of_whatever_is_sent_with_a_good_key(operation: Any, kept_connection: None, client: Client) -> None:
    key, user = APIKey.objects.create(name="Fuzzer", scopes=["*"]), User.objects.create(username="alice", is_staff=True)
    token = str(AccessToken.for_user(user))
    client.force_login(user)
    secrets = {
        "APIKeyAuthentication": str(key.key),
        "APIKeyAuthenticationInAuthorization": f"Api-Key {key.key}",
        "InternalAPIAuthentication": INTERNAL,
        "SharedKeyAuthentication": SHARED,
        "TrackingIngestAuthentication": DEDICATED,
        "cookieAuth": client.cookies["sessionid"].value,
        "jwtCookie": token,
        "jwtAuth": token,
    }
    ways = ways_to_open(operation, secrets)

    @given(case=operation.as_strategy(), way=st.sampled_from(ways or [{}]))
    @examples(max_examples=10, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    def try_it(case: Any, way: dict[str, Any]) -> None:
        response = case.call(**way)
        assert response.status_code < 500
        assert not ways or response.status_code not in {401, 403}
        case.validate_response(response, checks=[content_type_conformance, response_schema_conformance])

    try_it()
