"""Whose key it is, in keys and in the log, and a note on each key.

The columns have defaults in the database: servers of the release before go on writing until they are restarted.
"""

from typing import Any

from django.db import migrations, models
from django.utils import timezone

import keys.models.owners
import keys.models.validators
from keys import actor

BATCH = 500


def end_owned_keys(apps: Any, schema_editor: Any) -> None:
    """Every owned key ends: nobody asks for owners any more, and a key that was refused with its owner must not return."""
    using = schema_editor.connection.alias
    events = apps.get_model("keys", "AuditEvent").objects.using(using)
    owned = apps.get_model("keys", "APIKey").objects.using(using).filter(is_active=True).exclude(owner_ref="")
    while batch := list(owned.order_by("pk")[:BATCH]):
        events.bulk_create(
            events.model(
                at=timezone.now(), event="deactivated", api_key_id=key.pk, key_name=key.name, key_prefix=key.prefix,
                owner=key.owner_ref, actor=actor.current()[:150], changes={"is_active": [True, False]},
                detail="its owner was taken from it by a migration",
            )
            for key in batch
        )  # fmt: skip
        owned.filter(pk__in=[key.pk for key in batch]).update(is_active=False)


NARROW_INDEXES = (
    "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
    " AND table_name IN ('keys_apikey', 'keys_auditevent') AND row_format IN ('Compact', 'Redundant')"
)


def widen_indexes(apps: Any, schema_editor: Any) -> None:
    """Give tables from before MariaDB 10.2 today's row format, as theirs cannot have an index of 255 characters."""
    if schema_editor.connection.vendor == "mysql":
        with schema_editor.connection.cursor() as cursor:
            cursor.execute(NARROW_INDEXES)
            for (table,) in cursor.fetchall():
                cursor.execute(f"ALTER TABLE {table} ROW_FORMAT = DYNAMIC")


class Migration(migrations.Migration):
    dependencies = [
        ("keys", "0005_log_formats"),
    ]

    operations = [
        migrations.RunPython(widen_indexes, migrations.RunPython.noop, hints={"model_name": "apikey"}),
        migrations.AddField(
            model_name="apikey",
            name="note",
            field=models.TextField(
                blank=True,
                db_default="",
                default="",
                help_text="For people: whom to ask, which ticket. Never a key.",
                validators=[keys.models.validators.validate_note],
                verbose_name="note",
            ),
        ),
        migrations.AddField(
            model_name="apikey",
            name="owner_ref",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Whose key it is, such as auth.user:7. It is refused when its owner is gone or inactive.",
                max_length=255,
                validators=[keys.models.owners.validate_ref],
                verbose_name="owner",
            ),
        ),
        migrations.AddField(
            model_name="auditevent",
            name="owner",
            field=models.CharField(blank=True, db_default="", default="", max_length=255, verbose_name="owner"),
        ),
        migrations.AlterField(
            model_name="auditevent",
            name="reason",
            field=models.CharField(
                blank=True,
                choices=[
                    ("", ""),
                    ("unknown", "unknown key"),
                    ("malformed", "not a key at all"),
                    ("conflict", "two different keys"),
                    ("inactive", "inactive"),
                    ("expired", "expired"),
                    ("address", "address not allowed"),
                    ("owner", "owner gone or not allowed"),
                    ("scope", "scope missing"),
                    ("rate", "over its rate"),
                ],
                default="",
                max_length=16,
                verbose_name="reason",
            ),
        ),
        migrations.AddIndex(
            model_name="apikey",
            index=models.Index(fields=["owner_ref"], name="keys_apikey_owner"),
        ),
        migrations.AddIndex(
            model_name="auditevent",
            index=models.Index(condition=models.Q(("owner__gt", "")), fields=["owner", "at"], name="keys_event_owner"),
        ),
        migrations.RunPython(migrations.RunPython.noop, end_owned_keys, hints={"model_name": "apikey"}),
    ]
