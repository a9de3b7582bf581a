"""Keys: made and changed, read past the instance at hand, and tried."""

import pickle
from typing import Any

from django.db import connection

from keys.models import APIKey, AuditEvent


def make_key(name: str = "TTS-Backend", **fields: Any) -> APIKey:
    """Make a key; `created_at` may be given, too."""
    created_at = fields.pop("created_at", None)
    key = APIKey.objects.create(name=name, **fields)
    if created_at is not None:
        APIKey._base_manager.filter(pk=key.pk).update(created_at=created_at)
    return key


def column(key: APIKey, name: str = "key") -> Any:
    """What the database holds, read past the model."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {connection.ops.quote_name(name)} FROM keys_apikey WHERE id = %s", [key.pk])
        return cursor.fetchone()[0]


def stored(key: APIKey, name: str) -> Any:
    """What the model reads of a row; the instance is left as it is."""
    return APIKey.objects.values_list(name, flat=True).get(pk=key.pk)


def in_table(text: str) -> bool:
    return text in "\n".join(str(row) for row in APIKey.objects.values_list())


def pickled(what: Any) -> Any:
    return pickle.loads(pickle.dumps(what))  # noqa: S301


def made_before() -> APIKey:
    """Make a key and forget that in the log, so that a test sees its own events."""
    key = APIKey.objects.create(name="A")
    AuditEvent.objects.all().delete()
    return key


def assign(instance: APIKey, /, **values: Any) -> APIKey:
    for name, value in values.items():
        setattr(instance, name, value)
    return instance


def change(instance: APIKey, /, **values: Any) -> None:
    assign(instance, **values).save()
