"""The table of the system that this app replaces, so that its projects need only the later migrations."""

from django.db import migrations, models

from ._takeover import refuse_any_table


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.RunPython(refuse_any_table, migrations.RunPython.noop, hints={"model_name": "apikey"}),
        migrations.CreateModel(
            name="APIKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=100)),
                ("key", models.CharField(max_length=40, unique=True)),
                ("is_active", models.BooleanField(default=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
    ]
