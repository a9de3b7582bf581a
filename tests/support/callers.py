"""Requests of clients that present a key, or a token of a user."""

from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from rest_framework_simplejwt.tokens import AccessToken

from keys.models import APIKey

UNKNOWN = "0" * 40
UNAVAILABLE = {"detail": "API keys cannot be checked right now."}


def get(path: str, key: APIKey | str, **headers: str) -> Any:
    """Get a path with the key. What the view raises is a 500, as it is for anybody else."""
    token = key if isinstance(key, str) else key.key
    return Client(raise_request_exception=False, headers={"X-API-Key": token, **headers}).get(path)


def opens(token: str, url: str = "/guarded/") -> bool:
    return bool(get(url, token).status_code == 200)


def post(client: Client, address: str, body: Any) -> Any:
    return client.post(address, body, content_type="application/json")


def bearer(user: User) -> dict[str, str]:
    """Return the header of a user who has logged in."""
    return {"Authorization": f"Bearer {AccessToken.for_user(user)}"}
