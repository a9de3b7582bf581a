"""The changes of a life-cycle event with their values, the format of a seal, and the identity of the log."""

import uuid

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("keys", "0004_audit_seals"),
    ]

    operations = [
        migrations.CreateModel(
            name="AuditLog",
            fields=[
                ("home", models.CharField(editable=False, max_length=255, primary_key=True, serialize=False)),
                ("identity", models.UUIDField(default=uuid.uuid4, editable=False)),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.AddField(
            model_name="auditevent",
            name="changes",
            field=models.JSONField(blank=True, null=True, verbose_name="changes"),
        ),
        migrations.AddField(
            model_name="auditseal",
            name="format",
            # No release knows this one: seals from before the formats cannot be verified.
            field=models.PositiveSmallIntegerField(default=0, verbose_name="format"),
            preserve_default=False,
        ),
    ]
