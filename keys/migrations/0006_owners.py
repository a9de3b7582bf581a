"""Whose key it is, in keys and in the log, and a note on each key.

The columns have defaults in the database: servers of the release before go on writing until they are restarted.
"""

from django.db import migrations, models

import keys.models.owners
import keys.models.validators


class Migration(migrations.Migration):
    dependencies = [
        ("keys", "0005_log_formats"),
    ]

    operations = [
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
    ]
