"""What a key may do, for how long and from where; its successor; and the audit log."""

from typing import Any

import django.db.models.deletion
from django.db import migrations, models

import keys.audit.partitions
import keys.models.fields
import keys.models.validators

from ._takeover import refuse_another_table

# Where other tables point to the old table's id, and it is narrow: table, constraint, column and the constraint's rules.
NARROW_POINTERS = (
    "SELECT usual.table_name, usual.constraint_name, usual.column_name, pointer.is_nullable, delete_rule, update_rule"
    " FROM information_schema.key_column_usage AS usual"
    " JOIN information_schema.columns AS pointer USING (table_schema, table_name, column_name)"
    " JOIN information_schema.referential_constraints AS rules ON rules.constraint_schema = usual.constraint_schema"
    " AND rules.constraint_name = usual.constraint_name AND rules.table_name = usual.table_name"
    " WHERE usual.table_schema = DATABASE() AND usual.referenced_table_schema = DATABASE()"
    " AND usual.referenced_table_name = 'keys_apikey' AND usual.referenced_column_name = 'id'"
    " AND pointer.data_type <> 'bigint'"
)


def widen_id(apps: Any, schema_editor: Any) -> None:
    """Make the id of a table from before Django 3.2 as wide as what will point to it, which MariaDB insists on.

    What points to it already is made as wide, without its constraint meanwhile.
    """
    if schema_editor.connection.vendor != "mysql":
        return
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(NARROW_POINTERS)
        pointers = [(*map(schema_editor.quote_name, row[:3]), *row[3:]) for row in cursor.fetchall()]
    for table, constraint, column, is_nullable, *_ in pointers:
        null = "NULL" if is_nullable == "YES" else "NOT NULL"
        schema_editor.execute(f"ALTER TABLE {table} DROP FOREIGN KEY {constraint}, MODIFY {column} bigint {null}")
    schema_editor.execute("ALTER TABLE keys_apikey MODIFY id bigint NOT NULL AUTO_INCREMENT")
    for table, constraint, column, _, delete, update in pointers:
        schema_editor.execute(
            f"ALTER TABLE {table} ADD CONSTRAINT {constraint} FOREIGN KEY ({column}) REFERENCES keys_apikey (id)"
            f" ON DELETE {delete} ON UPDATE {update}"
        )


class Migration(migrations.Migration):
    dependencies = [
        ("keys", "0001_initial"),
    ]

    operations = [
        migrations.RunPython(refuse_another_table, migrations.RunPython.noop, hints={"model_name": "apikey"}),
        migrations.RunPython(widen_id, migrations.RunPython.noop, atomic=False, hints={"model_name": "apikey"}),
        migrations.AlterModelOptions(
            name="apikey",
            options={
                "base_manager_name": "rows",
                "ordering": ("name", "-created_at"),
                "verbose_name": "API key",
                "verbose_name_plural": "API keys",
            },
        ),
        migrations.AlterModelManagers(
            name="apikey",
            managers=[("objects", models.Manager()), ("rows", models.Manager())],
        ),
        migrations.AddField(
            model_name="apikey",
            name="allowed_ips",
            field=models.JSONField(
                blank=True,
                default=list,
                help_text="IPv4 and IPv6 networks the key may be used from. Empty: anywhere.",
                validators=[keys.models.validators.validate_networks],
                verbose_name="allowed networks",
            ),
        ),
        migrations.AddField(
            model_name="apikey",
            name="expires_at",
            field=models.DateTimeField(
                blank=True,
                help_text="Refused from this moment on. Empty: never expires.",
                null=True,
                verbose_name="expires at",
            ),
        ),
        migrations.AddField(
            model_name="apikey",
            name="family",
            field=models.BigIntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="apikey",
            name="prefix",
            field=keys.models.fields.PrefixField(
                blank=True, default="", editable=False, max_length=8, verbose_name="prefix"
            ),
        ),
        migrations.AddField(
            model_name="apikey",
            name="rate",
            field=models.CharField(
                blank=True,
                default="",
                help_text="For example 100/min, enforced where APIKeyRateThrottle is. Empty: no limit.",
                max_length=20,
                validators=[keys.models.validators.validate_rate],
                verbose_name="rate",
            ),
        ),
        migrations.AddField(
            model_name="apikey",
            name="replaced_by",
            field=models.OneToOneField(
                blank=True,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="predecessor",
                to="keys.apikey",
                verbose_name="replaced by",
            ),
        ),
        migrations.AddField(
            model_name="apikey",
            name="scopes",
            field=models.JSONField(
                blank=True,
                default=keys.models.fields.default_scopes,
                help_text="What the key may do. A key without scopes opens only what asks for no scope.",
                validators=[keys.models.validators.validate_scopes],
                verbose_name="scopes",
            ),
        ),
        migrations.AlterField(
            model_name="apikey",
            name="created_at",
            field=models.DateTimeField(auto_now_add=True, verbose_name="created at"),
        ),
        migrations.AlterField(
            model_name="apikey",
            name="is_active",
            field=models.BooleanField(
                default=True, help_text="Untick to refuse the key from the next request on.", verbose_name="active"
            ),
        ),
        migrations.AlterField(
            model_name="apikey",
            name="name",
            field=models.CharField(
                help_text="The service that will hold the key.",
                max_length=100,
                validators=[keys.models.validators.validate_name],
                verbose_name="name",
            ),
        ),
        keys.audit.partitions.CreatePartitionedModel(
            name="AuditEvent",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(verbose_name="at")),
                (
                    "event",
                    models.CharField(
                        choices=[
                            ("used", "used"),
                            ("refused", "refused"),
                            ("created", "created"),
                            ("changed", "changed"),
                            ("rotated", "rotated"),
                            ("deactivated", "deactivated"),
                            ("activated", "activated"),
                            ("deleted", "deleted"),
                            ("pruned", "pruned"),
                        ],
                        max_length=16,
                        verbose_name="event",
                    ),
                ),
                (
                    "reason",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("", ""),
                            ("unknown", "unknown key"),
                            ("malformed", "not a key at all"),
                            ("conflict", "two different keys"),
                            ("inactive", "inactive"),
                            ("expired", "expired"),
                            ("address", "address not allowed"),
                            ("scope", "scope missing"),
                            ("rate", "over its rate"),
                        ],
                        default="",
                        max_length=16,
                        verbose_name="reason",
                    ),
                ),
                ("key_name", models.CharField(blank=True, default="", max_length=100, verbose_name="key name")),
                ("key_prefix", models.CharField(blank=True, default="", max_length=8, verbose_name="key prefix")),
                ("method", models.CharField(blank=True, default="", max_length=16, verbose_name="method")),
                ("path", models.CharField(blank=True, default="", max_length=255, verbose_name="path")),
                ("endpoint", models.CharField(blank=True, default="", max_length=128, verbose_name="endpoint")),
                ("status", models.PositiveSmallIntegerField(blank=True, null=True, verbose_name="status")),
                ("duration_ms", models.PositiveIntegerField(blank=True, null=True, verbose_name="duration (ms)")),
                ("address", models.GenericIPAddressField(blank=True, null=True, verbose_name="address")),
                ("user_agent", models.CharField(blank=True, default="", max_length=255, verbose_name="user agent")),
                ("request_id", models.CharField(blank=True, default="", max_length=64, verbose_name="request id")),
                ("actor", models.CharField(blank=True, default="", max_length=150, verbose_name="actor")),
                ("count", models.PositiveIntegerField(default=1, verbose_name="count")),
                ("detail", models.CharField(blank=True, default="", max_length=255, verbose_name="detail")),
                ("ticket", models.BigIntegerField(editable=False, null=True)),
                (
                    "api_key",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="events",
                        to="keys.apikey",
                        verbose_name="API key",
                    ),
                ),
            ],
            options={
                "verbose_name": "audit event",
                "verbose_name_plural": "audit log",
                "ordering": ("-id",),
                "indexes": [
                    models.Index(fields=["api_key", "at"], name="keys_event_key_at"),
                    models.Index(fields=["at"], name="keys_event_at"),
                    models.Index(
                        fields=["key_name", "at"], name="keys_event_env", condition=models.Q(("api_key", None))
                    ),
                    models.Index(fields=["api_key", "at"], name="keys_event_step", condition=models.Q(("method", ""))),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=["at", "ticket"],
                        name="keys_event_ticket",
                        condition=models.Q(("ticket__isnull", False)),
                    ),
                ],
            },
        ),
    ]
