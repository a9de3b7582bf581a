"""Where keys of other systems came from, a longer beginning of theirs to show, and which keys may be guessed.

The new column has a default in the database: servers of the release before go on writing until they are restarted.
"""

from typing import Any

import django.db.models.deletion
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

import keys.models.fields


def mark_typed(apps: Any, schema_editor: Any) -> None:
    """Mark the keys of which nothing could be shown: until now that meant that a person typed them."""
    rows = apps.get_model("keys", "APIKey").objects.using(schema_editor.connection.alias)
    rows.filter(prefix="").update(typed_by_hand=True)


class AddedField(migrations.AddField):
    """Adds the column as every other database does on SQLite too, where Django would copy the table.

    The copy would take away the project's own triggers, and fail where a view names the table.
    """

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor != "sqlite":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            BaseDatabaseSchemaEditor.add_field(schema_editor, model, model._meta.get_field(self.name))


class WidenedField(migrations.AlterField):
    """Makes a text's column longer. It stays so on the way back, where a shorter one would cut what the log says."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        # SQLite heeds no length, and would copy the table.
        if schema_editor.connection.vendor != "sqlite":
            super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        pass


class Migration(migrations.Migration):
    dependencies = [
        ("keys", "0006_owners"),
    ]

    operations = [
        AddedField(
            model_name="apikey",
            name="typed_by_hand",
            field=keys.models.fields.TypedByHandField(
                db_default=False, default=False, editable=False, verbose_name="typed by hand"
            ),
        ),
        WidenedField(
            model_name="apikey",
            name="prefix",
            field=keys.models.fields.PrefixField(
                blank=True, default="", editable=False, max_length=20, verbose_name="prefix"
            ),
        ),
        WidenedField(
            model_name="auditevent",
            name="key_prefix",
            field=models.CharField(blank=True, default="", max_length=20, verbose_name="key prefix"),
        ),
        migrations.CreateModel(
            name="KeyOrigin",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "source",
                    keys.models.fields.ExactTextField(
                        help_text="The other system, such as authtoken.Token.", max_length=100, verbose_name="source"
                    ),
                ),
                (
                    "ref",
                    keys.models.fields.ExactTextField(
                        help_text="The record there, such as its primary key.", max_length=255, verbose_name="reference"
                    ),
                ),
                ("at", models.DateTimeField(verbose_name="at")),
                (
                    "api_key",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="origins",
                        to="keys.apikey",
                        verbose_name="API key",
                    ),
                ),
            ],
            options={
                "verbose_name": "origin of a key",
                "verbose_name_plural": "origins of keys",
                "default_permissions": (),
            },
        ),
        migrations.AddConstraint(
            model_name="keyorigin",
            constraint=models.UniqueConstraint(fields=("source", "ref"), name="keys_origin_once"),
        ),
        migrations.RunPython(mark_typed, migrations.RunPython.noop, hints={"model_name": "apikey"}),
    ]
