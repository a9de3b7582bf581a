"""What is no request of the API, other ways to send and show one, and its schema."""

import json
import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import models
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from keys import moments
from keys.models import APIKey
from keys.models.api_key import STATES
from keys.selfservice import rules
from tests.selfservice.calls import FIELDS, JSON, URL, logged_in, patch, post, row


@pytest.fixture
def client(anna: User) -> Client:
    return logged_in(anna)


@pytest.mark.parametrize(
    "body",
    [
        "", "null", "[]",
        '"x"', "7", "{", "[" * 5000, '{"name":' * 5000, '{"name": null}', '{"name": ""}', '{"name": []}',
        '{"name": "a\\u0000b"}', '{"name": "\\ud800"}', '{"name": "a\\nb"}', '{"name": "%s"}' % ("x" * 1_000_000),
        '{"name": "A", "scopes": "users:read"}', '{"name": "A", "scopes": {"users:read": 1}}',
        '{"name": "A", "scopes": [["users:read"]]}', '{"name": "A", "scopes": [{}]}', '{"name": "A", "scopes": null}',
        '{"name": "A", "scopes": ["\\u0000"]}', '{"name": "A", "scopes": ["%s"]}' % ("x" * 1_000_000),
        '{"name": "A", "scopes": [%s"users:read"]}' % ('"users:read",' * 5000),
        '{"name": "A", "allowed_ips": ["nonsense"]}', '{"name": "A", "allowed_ips": [%s"::1"]}' % ('"::1",' * 200),
        '{"name": "A", "allowed_ips": "10.0.0.0/8"}', '{"name": "A", "allowed_ips": ["10.0.0.1/8"]}',
        '{"name": "A", "expires_at": "9999-12-31T23:59:59.999999-23:59"}', '{"name": "A", "expires_at": 7}',
        '{"name": "A", "expires_at": "0001-01-01T00:00:00+23:59"}', '{"name": "A", "expires_at": "2020-01-01"}',
        '{"name": "A", "expires_at": {}}', '{"name": "A", "owner": "\\u0000"}', '{"name": "A", "owner": {"pk": 1}}',
        '{"name": "A", "owner": null}', '{"name": "A", "owner": "auth.user:%s"}' % ("9" * 200),
    ],
    ids=range(36),
)  # fmt: skip
def test_what_is_no_key_is_a_bad_request(client: Client, anna: User, body: str) -> None:
    answer = client.post(URL, body, content_type=JSON)
    assert answer.status_code == 400, answer.content[:200]
    assert not APIKey.objects.exists()


@pytest.mark.parametrize("body", ['{"grace": -1}', '{"grace": 1e400}', '{"grace": "1.5"}', '{"grace": true}', "[]"])
def test_what_is_no_grace_is_a_bad_request(client: Client, key: APIKey, body: str) -> None:
    assert client.post(f"{URL}{key.pk}/rotate/", body, content_type=JSON).status_code == 400
    assert client.post(f"{URL}{key.pk}/rotate/", '{"grace": %s}' % ("9" * 900), content_type=JSON).status_code == 400
    assert APIKey.objects.count() == 1


@pytest.mark.parametrize("body", ['{"reason": []}', '{"reason": "%s"}' % ("x" * 201), '{"reason": "\\u0000"}'])
def test_what_is_no_reason_is_a_bad_request(client: Client, key: APIKey, body: str) -> None:
    assert client.post(f"{URL}{key.pk}/deactivate/", body, content_type=JSON).status_code == 400
    assert row(key).is_active


def test_a_report_of_an_error_shows_no_secret(client: Client, key: APIKey, settings: Settings) -> None:
    settings.DEBUG = True
    for url in ("/unshown/", f"/unshown/{key.pk}/rotate/"):
        answer = post(client, url, {"name": "A"})
        assert answer.status_code == 500
        made, said = APIKey.objects.latest("pk"), answer.content.decode()
        assert made.prefix in said
        assert not re.search(rf"{made.prefix}[0-9a-f]{{32}}", said)


@pytest.mark.parametrize(("method", "step"), [("patch", ""), ("post", "rotate/"), ("post", "deactivate/")])
def test_what_others_have_changed_is_a_conflict(client: Client, key: APIKey, method: str, step: str) -> None:
    answer = getattr(client, method)(f"/changed/{key.pk}/{step}", {"name": "mine"}, content_type=JSON)
    assert (answer.status_code, answer.json()["detail"][:30]) == (409, "This key has been changed mean")
    assert (row(key).name, row(key).state, APIKey.objects.count()) == ("theirs", "active", 1)


def test_there_is_no_other_method(client: Client, key: APIKey) -> None:
    for url, methods in {
        URL: ("put", "patch", "delete"),
        f"{URL}{key.pk}/": ("put", "post", "delete"),
        f"{URL}{key.pk}/rotate/": ("get", "put", "patch", "delete"),
        f"{URL}{key.pk}/deactivate/": ("get", "put", "patch", "delete"),
        f"{URL}{key.pk}/usage/": ("post", "put", "patch", "delete"),
    }.items():
        for method in methods:
            assert getattr(client, method)(url, content_type=JSON).status_code == 405, (method, url)
        assert client.options(url).status_code == 200
    assert row(key).is_active


def test_raw_values_of_another_type_hinder_nobody(client: Client, key: APIKey) -> None:
    for scopes in ("users:read", 7, {"a": 1}, None):
        value = models.Value(scopes, models.JSONField())
        models.QuerySet(APIKey).filter(pk=key.pk).update(scopes=value, allowed_ips=value)
        assert client.get(f"{URL}{key.pk}/").json()["scopes"] == []
        assert post(client, f"{URL}{key.pk}/rotate/").status_code == 400
    assert patch(client, f"{URL}{key.pk}/", {"name": "B"}).status_code == 200


def test_the_end_of_the_calendar_is_shown(client: Client, key: APIKey, settings: Settings) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"
    APIKey.objects.filter(pk=key.pk).update(expires_at=datetime.fromisoformat("9999-12-31T23:59:59+00:00"))
    assert client.get(URL).json()[0]["expires_at"].startswith("9999-12-31T23:59:59")


def test_a_moment_of_another_zone_is_that_moment_without_time_zones(settings: Settings, client: Client) -> None:
    settings.USE_TZ, settings.TIME_ZONE = False, "America/New_York"
    made = post(client, URL, {"name": "A", "expires_at": "2099-06-01T12:00:00Z"})
    assert made.status_code == 400
    end = (timezone.now() + timedelta(days=2)).replace(microsecond=0)
    made = post(client, URL, {"name": "A", "expires_at": moments.instant(end).isoformat()}).json()
    assert APIKey.objects.get(pk=made["id"]).expires_at == end


class TestOtherDoors:
    def test_take_forms(self, client: Client, key: APIKey) -> None:
        made = client.post(URL, {"name": "A", "scopes": ["users:read", "tracking:*"], "allowed_ips[0]": "10.0.0.0/8"})
        assert made.status_code == 201
        assert (made.json()["scopes"], made.json()["allowed_ips"]) == (["users:read", "tracking:*"], ["10.0.0.0/8"])
        assert client.post(f"{URL}{key.pk}/rotate/", {"grace": "60"}).status_code == 201
        assert client.post(f"{URL}{key.pk}/deactivate/", {"reason": "lost"}).status_code == 200

    def test_show_the_browsable_api_with_the_secret_once(self, client: Client, key: APIKey) -> None:
        html = {"accept": "text/html"}
        for url in (URL, f"{URL}{key.pk}/", f"{URL}{key.pk}/usage/"):
            answer = client.get(url, headers=html)
            assert (answer.status_code, answer["Content-Type"]) == (200, "text/html; charset=utf-8")
        for url in (f"{URL}{key.pk}/rotate/", f"{URL}{key.pk}/deactivate/"):
            assert client.get(url, headers=html).status_code == 405
        for url in (URL, f"{URL}{key.pk}/rotate/"):
            answer = client.post(url, {"name": "A"}, headers=html)
            assert answer.status_code == 201
            made = APIKey.objects.latest("pk")
            said = answer.content.decode()
            [secret] = [
                word for word in said.replace("&quot;", " ").split() if len(word) == 40 and word[:8] == made.prefix
            ]
            assert said.count(secret) == 1
        assert client.post(URL, {"name": ""}, headers=html).status_code == 400

    def test_page_and_number_versions(self, client: Client, anna: User) -> None:
        for _ in range(3):
            rules.create(anna, name="A")
        body = client.get("/versions/v2/").json()
        assert (body["count"], len(body["results"])) == (3, 2)
        assert len(client.get("/versions/v2/?page=2").json()["results"]) == 1
        key = APIKey.objects.latest("pk")
        assert post(client, f"/versions/v2/{key.pk}/deactivate/").status_code == 200
        assert post(client, "/versions/v2/", {"name": "B"}).status_code == 201
        assert patch(client, f"/v1/{APIKey.objects.latest('pk').pk}/", {"name": "C"}).status_code == 200


def test_the_schema_is_complete(client: Client, tmp_path: Any) -> None:
    target = tmp_path / "schema.json"
    call_command(
        "spectacular", validate=True, fail_on_warn=True, format="openapi-json", file=str(target), skip_checks=True
    )
    schema = json.loads(target.read_text())
    operations = {
        f"{method} {path}": operation
        for path, methods in schema["paths"].items()
        if path.startswith("/mine/")
        for method, operation in methods.items()
    }
    assert {*operations} == {
        "get /mine/", "post /mine/", "get /mine/{id}/", "patch /mine/{id}/", "post /mine/{id}/rotate/",
        "post /mine/{id}/deactivate/", "get /mine/{id}/usage/",
    }  # fmt: skip
    names = schema["components"]["schemas"]
    assert names["APIKeyState"]["enum"] == [*STATES]
    assert names["OwnKey"]["properties"]["state"]["allOf"] == [{"$ref": "#/components/schemas/APIKeyState"}]
    assert {*names["OwnKey"]["properties"]} == FIELDS
    assert {*names["OwnKeyWithSecret"]["properties"]} == FIELDS | {"key"}
    assert "409" in operations["post /mine/{id}/rotate/"]["responses"]
    assert "201" in operations["post /mine/"]["responses"]
    listed = [schema["paths"][path]["get"]["responses"]["200"]["content"] for path in ("/mine/", "/paged/")]
    kinds = [one["application/json"]["schema"] for one in listed]
    assert [kind.get("type") or kind["$ref"] for kind in kinds] == [
        "array", "#/components/schemas/PaginatedOwnKeyList",
    ]  # fmt: skip
    # No key opens it.
    assert all(one["security"] == [{"cookieAuth": []}] for one in operations.values())


def test_no_cache_of_the_site_keeps_the_keys_of_a_user(client: Client, key: APIKey, settings: Settings) -> None:
    cache = "django.middleware.cache"
    around = [f"{cache}.UpdateCacheMiddleware", *settings.MIDDLEWARE, f"{cache}.FetchFromCacheMiddleware"]
    settings.MIDDLEWARE = around
    answer = client.get(URL)
    # Not every Django minds "no-store".
    assert answer.wsgi_request._cache_update_cache is False  # type: ignore[attr-defined]
    rules.deactivate(key)
    assert client.get(URL).json()[0]["state"] == "inactive"
