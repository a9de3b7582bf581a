"""What a service is told of a key that was presented to it (RFC 7662)."""

import pytest
from django.test import Client

from keys.models import APIKey, AuditEvent

pytestmark = [pytest.mark.django_db, pytest.mark.urls("example_project.urls")]


def test_both_uses_are_on_record(client: Client) -> None:
    caller = APIKey.objects.create(name="Orders", scopes=["keys:introspect"])
    key = APIKey.objects.create(name="Billing", scopes=["orders:read"])
    answer = client.post("/api/v1/keys/introspect/", {"token": key.key}, headers={"X-API-Key": caller.key})
    assert answer.status_code == 200
    found = answer.json()
    assert found.pop("iat") == int(key.created_at.timestamp())
    assert found == {
        "active": True, "scope": "orders:read", "client_id": key.prefix, "username": "Billing", "sub": f"key:{key.pk}"
    }  # fmt: skip
    rows = AuditEvent.objects.filter(event="used").values_list("key_name", "actor", "endpoint", "status")
    assert sorted(rows) == [
        ("Billing", "key:Orders", "introspection:Orders", 200), ("Orders", "", "introspect", 200)
    ]  # fmt: skip
