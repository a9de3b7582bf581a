"""Helpers for keys: create and change them, read their rows, and try them."""

import pickle
from datetime import datetime
from typing import Any

from django.db import connection, models

from keys.models import APIKey, AuditEvent


def make_key(name: str = "TTS-Backend", **fields: Any) -> APIKey:
    """Make a key; `created_at` may be given, too."""
    created_at = fields.pop("created_at", None)
    key = APIKey.objects.create(name=name, **fields)
    if created_at is not None:
        backdate(key, created_at)
    return key


def backdate(key: APIKey, created_at: datetime) -> None:
    """Let the key be older than it is, without an event."""
    models.QuerySet(APIKey).filter(pk=key.pk).update(created_at=created_at)


def named_before(name: str) -> APIKey:
    """Make a key with a name that could be written before names were checked."""
    key = make_key()
    # Past the managers of keys, which write events.
    models.QuerySet(APIKey).filter(pk=key.pk).update(name=name)
    secret = key.key
    key.refresh_from_db()
    key.__dict__["key"] = secret
    return key


def column(key: APIKey, name: str = "key") -> Any:
    """Return a column's value in the database, without the model."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {connection.ops.quote_name(name)} FROM keys_apikey WHERE id = %s", [key.pk])
        return cursor.fetchone()[0]


def stored(key: APIKey, name: str) -> Any:
    """Return a field's value in the database, as the model reads it; the instance is not changed."""
    return APIKey.objects.values_list(name, flat=True).get(pk=key.pk)


def in_table(text: str) -> bool:
    return text in "\n".join(str(row) for row in APIKey.objects.values_list())


def pickled(what: Any) -> Any:
    return pickle.loads(pickle.dumps(what))  # noqa: S301


def made_before() -> APIKey:
    """Create a key, and clear the log, so that a test sees only its own events."""
    key = APIKey.objects.create(name="A")
    AuditEvent.objects.all().delete()
    return key


def assign(instance: APIKey, /, **values: Any) -> APIKey:
    for name, value in values.items():
        setattr(instance, name, value)
    return instance


def change(instance: APIKey, /, **values: Any) -> None:
    assign(instance, **values).save()
