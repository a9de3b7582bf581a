"""Services that ask about keys."""

from typing import Any
from urllib.parse import urlencode

from django.test import Client

from keys.models import APIKey, AuditEvent

ADDRESS = "/api/v1/keys/introspect/"
FORM = "application/x-www-form-urlencoded"
INACTIVE = b'{"active": false}'


def ask(
    caller: APIKey | str,
    token: APIKey | str,
    *,
    headers: dict[str, str] | None = None,
    path: str = ADDRESS,
    **fields: str,
) -> Any:
    """Ask about a key, as the service that has the caller's. What the view raises is a 500."""
    form = {"token": token if isinstance(token, str) else str(token.key), **fields}
    return send(caller, urlencode(form), headers=headers, path=path)


def send(caller: APIKey | str, body: str | bytes, content_type: str = FORM, **options: Any) -> Any:
    """Send a form, as the service that has this key."""
    own = {"X-API-Key": caller if isinstance(caller, str) else str(caller.key)}
    headers = {**own, **(options.pop("headers", None) or {})}
    client = Client(raise_request_exception=False)
    data = body.encode() if isinstance(body, str) else body
    # Django's client leaves the header out where there is no body.
    options.setdefault("CONTENT_TYPE", content_type)
    return client.generic("POST", options.pop("path", ADDRESS), data, content_type, headers=headers, **options)


def uses() -> list[tuple[str, str, str, str, str, int | None]]:
    """Return event, reason, key name, actor, endpoint and status of each request in the log."""
    columns = ("event", "reason", "key_name", "actor", "endpoint", "status")
    return list(AuditEvent.objects.exclude(method="").order_by("id").values_list(*columns))
