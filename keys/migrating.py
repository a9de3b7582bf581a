"""How the migration makes the audit log's table: on PostgreSQL, partitioned by month."""

from typing import Any

from django.db import models
from django.db.migrations.operations import CreateModel

from .partitions import PartitionedTable


class CreatePartitionedModel(CreateModel):
    """CreateModel, and on PostgreSQL a table that is partitioned by its column `at`, whose primary key holds it too.

    To Django it is the table of the model, with `id` for its primary key.
    """

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor != "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        if not self.allow_migrate_model(schema_editor.connection.alias, to_state.apps.get_model(app_label, self.name)):
            return
        # What is unique across partitions must hold the column that they are made by.
        state = to_state.clone()
        state.models[app_label, self.name_lower].fields["pk"] = models.CompositePrimaryKey("id", "at")
        state.reload_model(app_label, self.name_lower)
        model = state.apps.get_model(app_label, self.name)
        model._meta.get_field("id").primary_key = False
        schema_editor.sql_create_table += " PARTITION BY RANGE (at)"
        try:
            schema_editor.create_model(model)
        finally:
            del schema_editor.sql_create_table
        for statement in PartitionedTable(model._meta.db_table, schema_editor.quote_name).first():
            schema_editor.execute(statement, None)
