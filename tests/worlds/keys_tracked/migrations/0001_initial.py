"""The table of the keys' history, as the key is today."""

from typing import Any

from django.apps import apps
from django.db import migrations


def make_the_table(app_registry: Any, schema_editor: Any) -> None:
    schema_editor.create_model(apps.get_model("keys", "APIKey").history.model)  # type: ignore[attr-defined]


class Migration(migrations.Migration):
    initial = True
    dependencies = [("auth", "0001_initial")]
    operations = [migrations.RunPython(make_the_table, migrations.RunPython.noop, atomic=False)]
