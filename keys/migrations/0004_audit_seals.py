"""The seals of the audit log."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("keys", "0003_hash_keys"),
    ]

    operations = [
        migrations.CreateModel(
            name="AuditSeal",
            fields=[
                ("number", models.BigAutoField(primary_key=True, serialize=False, verbose_name="number")),
                ("made_at", models.DateTimeField(verbose_name="made at")),
                ("first_id", models.BigIntegerField(verbose_name="first row")),
                ("last_id", models.BigIntegerField(verbose_name="last row")),
                ("since", models.DateTimeField(verbose_name="time of the oldest row")),
                ("until", models.DateTimeField(verbose_name="time of the newest row")),
                ("count", models.PositiveIntegerField(verbose_name="rows")),
                ("entries", models.BinaryField(verbose_name="what is kept of the rows")),
                ("previous", models.CharField(blank=True, max_length=64, verbose_name="digest of the seal before it")),
                ("digest", models.CharField(max_length=64, verbose_name="digest")),
                ("key_id", models.CharField(max_length=8, verbose_name="key")),
                ("signature", models.CharField(max_length=64, verbose_name="signature")),
            ],
            options={
                "verbose_name": "seal of the audit log",
                "verbose_name_plural": "seals of the audit log",
                "ordering": ("number",),
                "default_permissions": (),
            },
        ),
    ]
