"""Those who ask about a key: by requests, and by httpx with both of its clients."""

import asyncio
import json
import ssl
from collections.abc import Callable
from typing import Any

import httpx

from keys.calling.introspection import Introspection
from keys.client import APIKeySession
from keys.httpx_client import APIKeyAuth, aintrospect, introspect
from tests.support.recording_service import KEY, Answer

TOKEN = "abcdefabcdefabcdefabcdefabcdefabcdefabcd"
ACTIVE = {"active": True, "scope": "orders:* users:read", "client_id": "abcdefab", "username": "Billing", "sub": "7"}
YES = Answer(body=json.dumps(ACTIVE).encode())
NO = Answer(body=b'{"active": false}')
TLS = ssl.create_default_context()  # takes longer to make than a question to ask

Ask = Callable[..., Introspection]


def by_requests(url: str, key: str = KEY, **options: Any) -> Ask:
    return APIKeySession(url, key, **options).introspect


def by_httpx(url: str, key: str = KEY, **options: Any) -> Ask:
    auth = APIKeyAuth(url, key, **options)

    def ask(token: str, **details: Any) -> Introspection:
        with httpx.Client(auth=auth, verify=TLS, follow_redirects=True) as client:
            return introspect(client, token, **details)

    return ask


def by_async_httpx(url: str, key: str = KEY, **options: Any) -> Ask:
    auth = APIKeyAuth(url, key, **options)

    def ask(token: str, **details: Any) -> Introspection:
        async def call() -> Introspection:
            async with httpx.AsyncClient(auth=auth, verify=TLS, follow_redirects=True) as client:
                return await aintrospect(client, token, **details)

        return asyncio.run(call())

    return ask
