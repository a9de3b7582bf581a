"""What a proxy is answered, and what its rows say."""

import pytest
from django.test import Client
from pytest_django import Settings

from keys.models import APIKey, AuditEvent

pytestmark = [pytest.mark.django_db, pytest.mark.urls("example_project.urls")]


@pytest.fixture
def key() -> APIKey:
    return APIKey.objects.create(name="Billing", scopes=["orders:*"])


@pytest.fixture
def behind_proxy(settings: Settings) -> None:
    settings.KEYS = {"TRUSTED_PROXIES": 1}


def test_a_good_key_is_named_to_the_service(client: Client, key: APIKey) -> None:
    answer = client.get("/gateway/?scope=orders:read", headers={"X-API-Key": key.key})
    assert answer.status_code == 200
    named = {name: value for name, value in answer.headers.items() if name.startswith("X-Key-")}
    assert named == {
        "X-Key-Name": "Billing", "X-Key-Prefix": key.prefix, "X-Key-Scopes": "orders:*", "X-Key-Owner": ""
    }  # fmt: skip


def test_the_row_names_the_request_that_the_proxy_asks_about(client: Client, key: APIKey, behind_proxy: None) -> None:
    asked = {
        "X-Original-URI": "/orders/7?secret=1",
        "X-Original-Method": "DELETE",
        "X-Forwarded-Host": "orders.example",
    }
    client.get("/gateway/", headers={"X-API-Key": key.key, "X-Forwarded-For": "203.0.113.7", **asked})
    row = AuditEvent.objects.get(event="used")
    assert (row.method, row.path, row.endpoint) == ("DELETE", "/orders/7", "gateway:orders.example")
    assert (row.address, row.status) == ("203.0.113.7", 200)
