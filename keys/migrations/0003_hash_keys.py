"""Replaces the plain keys by their digests, in place: every client goes on working, no key can be read any more."""

import secrets
from collections.abc import Iterator
from typing import Any

from django.db import IntegrityError, migrations, models, transaction

import keys.models.fields
from keys import tokens

BATCH = 500


def stored_keys(apps: Any, schema_editor: Any) -> Any:
    return apps.get_model("keys", "APIKey").objects.using(schema_editor.connection.alias).order_by("pk")


def batches(rows: Any) -> Iterator[list[Any]]:
    batch = list(rows[:BATCH])
    while batch:
        yield batch
        batch = list(rows.filter(pk__gt=batch[-1].pk)[:BATCH])


# Django takes a unique key for a constraint. Tools that copy a database make an index of it.
UNIQUE_INDEXES = (
    "SELECT indexrelid::regclass::text FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)"
    " WHERE indrelid = to_regclass('keys_apikey') AND attname = 'key' AND indisunique"
    " AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u'))"
)


def drop_unique_indexes(apps: Any, schema_editor: Any) -> None:
    """Drop unique indexes that are no constraints; the last operation makes the key unique again."""
    if schema_editor.connection.vendor == "postgresql":
        with schema_editor.connection.cursor() as cursor:
            cursor.execute(UNIQUE_INDEXES)
            for (index,) in cursor.fetchall():
                cursor.execute(f"DROP INDEX {index}")


def hash_keys(apps: Any, schema_editor: Any) -> None:
    """Put the digest where the key was, and deactivate a row whose key is empty."""
    rows = stored_keys(apps, schema_editor)
    stored = list(rows.values_list("key", flat=True))
    if len(set(stored)) < len(stored):
        # Before anything is changed, as not every database rolls a migration back.
        raise IntegrityError("Two rows of keys_apikey hold the same key: delete one of them, and migrate again.")
    for batch in batches(rows):
        # Where the database cannot roll a migration back, some were done before an interruption.
        plain = [row for row in batch if not tokens.is_digest(row.key)]
        for row in plain:
            row.is_active = row.is_active and row.key != ""
            row.prefix = row.key[: tokens.PREFIX_LENGTH] if tokens.is_standard(row.key) else ""
            row.key = tokens.digest(row.key)
        rows.bulk_update(plain, ["key", "prefix", "is_active"])
    if rows.exists():
        forget_plain_keys(schema_editor.connection)


def forget_plain_keys(connection: Any) -> None:
    """Remove them from the files of the database, where deleted rows lie on. Backups and archived logs are not ours."""

    def execute(*statements: str) -> None:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    if connection.vendor == "postgresql":
        # Writes the table and its indexes anew. VACUUM FULL would keep what an older transaction might still read.
        execute("ALTER TABLE keys_apikey ALTER COLUMN key TYPE varchar(160) USING key || ''")
    elif connection.vendor == "mysql":
        execute("ALTER TABLE keys_apikey FORCE")
    elif connection.vendor == "sqlite":
        transaction.on_commit(
            lambda: execute("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"), using=connection.alias, robust=True
        )


def make_unusable(apps: Any, schema_editor: Any) -> None:
    """Every key ends for good. No digest may become a working key, so each row gets one that no header can carry."""
    rows = stored_keys(apps, schema_editor)
    for batch in batches(rows):
        for row in batch:
            row.is_active = False
            row.key = "!\n" + secrets.token_hex(19)  # 40 characters; a line break cannot be sent
        rows.bulk_update(batch, ["key", "is_active"])


class Migration(migrations.Migration):
    dependencies = [("keys", "0002_scopes_expiry_rotation_audit")]

    operations = [
        migrations.RunPython(drop_unique_indexes, migrations.RunPython.noop, hints={"model_name": "apikey"}),
        # A plain field while the rows are hashed: KeyField would take the plain keys it loads for digests.
        # Not unique meanwhile, so that an old table that lacks the constraint has it in the end.
        migrations.AlterField("apikey", "key", models.CharField(max_length=160)),
        migrations.RunPython(hash_keys, make_unusable, hints={"model_name": "apikey"}),
        migrations.AlterField("apikey", "key", keys.models.fields.KeyField(verbose_name="key")),
    ]
