"""The order, and its history where django-simple-history keeps one."""

from typing import Any

import django.db.models.deletion
from django.apps import apps
from django.conf import settings
from django.db import migrations, models


def history() -> list[migrations.CreateModel]:
    if not apps.is_installed("simple_history"):
        return []
    from simple_history.models import HistoricalChanges

    user, types = settings.AUTH_USER_MODEL, [("+", "Created"), ("~", "Changed"), ("-", "Deleted")]
    by = models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="+", to=user)
    owner = models.ForeignKey(
        null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name="+", to=user, db_constraint=False
    )
    fields: list[tuple[str, Any]] = [
        ("id", models.BigIntegerField(db_index=True)),
        ("name", models.CharField(max_length=100)),
        ("owner", owner),
        ("history_id", models.AutoField(primary_key=True)),
        ("history_date", models.DateTimeField(db_index=True)),
        ("history_change_reason", models.CharField(max_length=100, null=True)),
        ("history_type", models.CharField(choices=types, max_length=1)),
        ("history_user", by),
    ]
    return [migrations.CreateModel("HistoricalOrder", fields, bases=(HistoricalChanges, models.Model))]


class Migration(migrations.Migration):
    initial = True
    dependencies = [migrations.swappable_dependency(settings.AUTH_USER_MODEL)]
    operations = [
        migrations.CreateModel(
            "Order",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("name", models.CharField(max_length=100)),
                (
                    "owner",
                    models.ForeignKey(
                        null=True, on_delete=django.db.models.deletion.SET_NULL, to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
        ),
        *history(),
    ]
