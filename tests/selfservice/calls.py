"""Calls of the API, as a browser with a session makes them, and of the rules."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.test import Client
from pytest_django import Settings

from keys.models import APIKey
from tests.selfservice.limits import RULES

URL = "/mine/"
FIELDS = {
    "id", "name", "prefix", "state", "owner", "scopes", "allowed_ips", "rate", "created_at", "expires_at",
    "last_used_at", "replaced_by",
}  # fmt: skip
JSON = "application/json"


def logged_in(user: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def post(client: Client, url: str, body: Any = None) -> Any:
    return client.post(url, {} if body is None else body, content_type=JSON)


def patch(client: Client, url: str, body: Any) -> Any:
    return client.patch(url, body, content_type=JSON)


def row(key: APIKey) -> APIKey:
    return APIKey.objects.get(pk=key.pk)


def with_rules(settings: Settings, **more: Any) -> None:
    settings.KEYS = {**settings.KEYS, "SELF_SERVICE": {**RULES, **more}}


def refused(field: str = "__all__") -> Any:
    """Expect a refusal that is about this field and no other."""
    return pytest.raises(ValidationError, check=lambda error: [*_by_field(error)] == [field])


def _by_field(error: ValidationError) -> dict[str, Any]:
    return error.error_dict if hasattr(error, "error_dict") else {"__all__": error}


def endless(key: APIKey) -> APIKey:
    """Let the key have no end, as one that an administrator made."""
    APIKey.objects.filter(pk=key.pk).update(expires_at=None)
    return row(key)
