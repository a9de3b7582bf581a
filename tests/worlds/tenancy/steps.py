"""What a project with tenants asks of keys: nothing of one tenant gets to another."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import time_machine
from django.contrib.admin.utils import flatten_fieldsets
from django.core.management import call_command
from django.db import connection as djangos
from django.db import connections
from django.test import Client, RequestFactory
from django.test.utils import override_settings
from django.utils import timezone
from django_tenants.utils import schema_context

from keys.admin import OwnedKeysMixin
from keys.audit.floods import floods
from keys.audit.sinks import backlog
from keys.models import APIKey, AuditEvent
from keys.models.audit_event import TRAFFIC
from tests.worlds.commands import run
from tests.worlds.tenancy.models import Domain, Tenant

connection: Any = djangos
LATE = override_settings(KEYS={"OUTCOME_DELAY": timedelta(hours=1)})


def add_tenant(schema: str) -> Tenant:
    """Create the tenant, its schema with all tables, and its host."""
    with schema_context("public"):
        tenant = Tenant(schema_name=schema)
        tenant.save(verbosity=0)
        Domain.objects.create(tenant=tenant, domain=f"{schema}.example", is_primary=True)
    return tenant


def add_key(schema: str, **values: Any) -> APIKey:
    with schema_context(schema):
        key: APIKey = APIKey.objects.create(**{"name": f"of {schema}", "scopes": ["orders:read"], **values})
        return key


def ask(schema: str, token: object, path: str = "/orders/") -> int:
    """Return the status of a request to the tenant's host."""
    return Client(SERVER_NAME=f"{schema}.example").get(path, headers={"X-API-Key": str(token)}).status_code


def log_of(schema: str, *, flushed: bool = True) -> list[tuple[str, str, int | None, int]]:
    """Return what a tenant's log says of requests; without `flushed`, before anything pending is written."""
    manager = AuditEvent.objects if flushed else AuditEvent._base_manager
    with schema_context(schema):
        rows = manager.filter(event__in=TRAFFIC).order_by("id")
        return list(rows.values_list("event", "key_name", "status", "count"))


def clear(*schemas: str) -> None:
    for schema in schemas:
        with schema_context(schema):
            AuditEvent.objects.all().delete()
            APIKey.objects.all().delete()


def each_key_opens_its_own_tenant(*schemas: str) -> None:
    clear(*schemas)
    keys = {schema: add_key(schema) for schema in schemas}
    for holder, key in keys.items():
        for schema in schemas:
            assert ask(schema, key.key) == (200 if holder == schema else 401), (holder, schema)
    for schema in schemas:
        assert sorted(log_of(schema)) == sorted(
            ("used", f"of {schema}", 200, 1) if holder == schema else ("refused", "", 401, 1) for holder in schemas
        ), schema


@LATE
def pending_outcomes_are_written_where_their_rows_are(*schemas: str) -> None:
    clear(*schemas)
    keys = {schema: add_key(schema) for schema in schemas}
    for _ in range(3):
        for schema in schemas:
            assert ask(schema, keys[schema].key) == 200
    waiting = [status for schema in schemas for _, _, status, _ in log_of(schema, flushed=False)]
    assert waiting.count(None) >= 2 * len(schemas), waiting
    backlog.flush()
    for schema in schemas:
        assert log_of(schema, flushed=False) == [("used", f"of {schema}", 200, 1)] * 3


def the_timer_finds_the_tenant(*schemas: str) -> None:
    clear(*schemas)
    keys = {schema: add_key(schema) for schema in schemas}
    with LATE:
        for _ in range(3):
            for schema in schemas:
                ask(schema, keys[schema].key)
    in_a_thread(backlog._flush_and_close)
    for schema in schemas:
        assert log_of(schema, flushed=False) == [("used", f"of {schema}", 200, 1)] * 3


def a_view_that_changes_the_tenant_changes_no_row_s_place() -> None:
    clear("acme", "globex")
    key = add_key("acme")
    for options in ({}, {"OUTCOME_DELAY": timedelta(0)}, {"OUTCOME_DELAY": timedelta(hours=1)}):
        with override_settings(KEYS=options):
            for path in ("/visits/", "/stays/"):
                assert ask("acme", key.key, path) == 200
    connection.set_schema("acme")
    assert log_of("acme") == [("used", "of acme", 200, 1)] * 6
    assert log_of("globex") == []


def a_guarded_view_of_another_tenant_asks_for_its_key() -> None:
    """A decision belongs to the tenant in which it was made, and so does its row, whenever that is written."""
    clear("acme", "globex")
    keys = {schema: add_key(schema) for schema in ("acme", "globex")}
    for delay in (timedelta(0), timedelta(hours=1)):
        floods.forget()
        with override_settings(KEYS={"OUTCOME_DELAY": delay}):
            assert [ask("acme", key.key, "/guest/") for key in keys.values()] == [401, 200]
            assert [ask("acme", key.key, "/host/") for key in keys.values()] == [401, 401]
    assert sorted(set(log_of("globex"))) == [("refused", "", 401, 1), ("used", "of globex", 200, 1)]
    assert len(log_of("globex")) == 6
    assert log_of("acme") == [("used", "of acme", 401, 1), ("refused", "", 401, 1)] * 2


def what_is_left_is_refused_where_it_was_presented() -> None:
    """Whatever tenant the other authenticator goes to; and so is decided what our guard was not asked about."""
    clear("acme", "globex")
    keys = {schema: add_key(schema) for schema in ("acme", "globex")}
    for path in ("/left/", "/unasked/"):
        assert ask("acme", keys["globex"].key, path) == 401
    assert ask("acme", keys["acme"].key, "/unasked/") == 401
    connection.set_schema("acme")
    assert log_of("acme") == [("refused", "", 401, 1)] * 2 + [("used", "of acme", 401, 1)]
    assert log_of("globex") == []


@LATE
def strangers_are_counted_in_each_tenant(*schemas: str) -> None:
    clear(*schemas)
    for _ in range(8):
        for schema in schemas:
            assert ask(schema, "0" * 40) == 401
    for schema in schemas:
        assert log_of(schema) == [("refused", "", 401, 1)] * 5 + [("refused", "", 401, 3)], (schema, log_of(schema))


def rates_are_counted_in_each_tenant(*schemas: str) -> None:
    clear(*schemas)
    # Of one number in each, as rows of different schemas are.
    keys = {schema: add_key(schema, pk=700, rate="2/hour") for schema in schemas}
    for schema in schemas:
        assert [ask(schema, keys[schema].key) for _ in range(3)] == [200, 200, 429], schema


def a_schema_made_and_dropped_while_the_server_runs() -> None:
    clear("acme")
    key = add_key("acme")
    with LATE:
        for _ in range(3):
            ask("acme", key.key)
        tenant = add_tenant("initech")
        new = add_key("initech")
        for _ in range(3):
            assert ask("initech", new.key) == 200
            assert ask("initech", key.key) == 401
        connection.set_schema("public")
        tenant.delete(force_drop=True)
        connection.set_schema("acme")
        # What waits for the dropped schema is in nobody's way, and comes to an end.
        backlog.flush()
        assert not backlog._batches
    assert log_of("acme", flushed=False) == [("used", "of acme", 200, 1)] * 3


def a_plan_of_one_tenant_serves_no_other() -> None:
    """Their tables differ while one is migrated and the other is not."""
    clear("acme", "globex")
    keys = {schema: add_key(schema) for schema in ("acme", "globex")}
    for _ in range(2):
        assert [ask(schema, key.key) for schema, key in keys.items()] == [200, 200]
    with schema_context("globex"), connection.cursor() as cursor:
        cursor.execute("ALTER TABLE keys_apikey ALTER COLUMN rate TYPE text")
    for _ in range(2):
        assert [ask(schema, key.key) for schema, key in keys.items()] == [200, 200]
    with schema_context("globex"), connection.cursor() as cursor:
        cursor.execute("ALTER TABLE keys_apikey ALTER COLUMN rate TYPE varchar(20)")


def a_tenant_migrated_while_the_server_runs() -> None:
    """Until it has tables of its own it finds the public ones, and no longer."""
    clear("public")
    key = add_key("public")
    with schema_context("public"):
        tenant = Tenant(schema_name="late")
        tenant.auto_create_schema = False
        tenant.save()
        Domain.objects.create(tenant=tenant, domain="late.example", is_primary=True)
        with connection.cursor() as cursor:
            cursor.execute("CREATE SCHEMA late")
    assert [ask("late", key.key) for _ in range(2)] == [200, 200]
    # Elsewhere, so that this connection hears nothing of it.
    in_a_thread(lambda: call_command("migrate_schemas", schema_name="late", verbosity=0))
    assert [ask("late", key.key) for _ in range(2)] == [401, 401]
    assert log_of("late") == [("refused", "", 401, 1)] * 2
    connection.set_schema("public")
    tenant.delete(force_drop=True)
    connection.set_schema("acme")


def what_commands_make_lies_beside_the_tables(home: str, schema: str) -> None:
    """In the schema of a tenant it would be dropped with the tenant, although it is of use to others."""
    made = (
        "SELECT nspname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE relname ~ '_2031_0[678]$'"
        " AND relkind = 'r' UNION ALL"
        " SELECT nspname FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace WHERE proname = 'keys_append_only'"
    )
    with time_machine.travel(datetime(2031, 6, 15, tzinfo=UTC).timestamp()):
        run("tenant_command", "--schema", schema, "keys_partition")
    run("tenant_command", "--schema", schema, "keys_guard", "install")
    try:
        with connection.cursor() as cursor:
            cursor.execute(made)
            assert cursor.fetchall() == [(home,)] * 4
    finally:
        run("tenant_command", "--schema", schema, "keys_guard", "remove")


def guards_of_others_stay() -> None:
    """A tenant without triggers has none to remove, and rights are given on its own tables."""
    run("tenant_command", "--schema", "public", "keys_guard", "install")
    try:
        run("tenant_command", "--schema", "acme", "keys_guard", "remove")
        run("tenant_command", "--schema", "public", "keys_guard", "status")
    finally:
        run("tenant_command", "--schema", "public", "keys_guard", "remove")
    written = run("tenant_command", "--schema", "acme", "keys_guard", "grants", "--role", "web")
    assert written.count('"acme"."keys_') == written.count('"keys_') > 4, written


def owners_are_others_in_each_tenant(first: str, second: str) -> None:
    """A user of one tenant has the number of another one's, whose keys go on."""
    from django.contrib.auth.models import User

    clear(first, second)
    made = {}
    for schema in (first, second):
        with schema_context(schema):
            User.objects.create(pk=77, username=f"of {schema}")
        made[schema] = add_key(schema, owner_ref="auth.user:77")
    assert [ask(schema, key.key) for schema, key in made.items()] == [200, 200]
    assert ask(first, made[second].key) == 401
    with schema_context(second):
        User.objects.filter(pk=77).update(is_active=False)
    assert [ask(schema, key.key) for schema, key in made.items()] == [200, 401]
    with schema_context(first):
        User.objects.filter(pk=77).delete()
        assert not APIKey.objects.get(pk=made[first].pk).is_active
    with schema_context(second):
        assert APIKey.objects.get(pk=made[second].pk).is_active
        assert AuditEvent.objects.filter(owner="auth.user:77", reason="owner").count() == 1


def owners_are_shared_by_all(*schemas: str) -> None:
    """The public schema has users and no keys; whoever is deleted there has none that are accepted anywhere."""
    from django.contrib import admin
    from django.contrib.auth.admin import UserAdmin
    from django.contrib.auth.models import User

    clear(*schemas)
    pages = type("Owners", (OwnedKeysMixin, UserAdmin), {})(User, admin.site)
    with schema_context("public"):
        root = User.objects.create(username="root", is_superuser=True, is_staff=True)
        users = [User.objects.create(username=f"user {number}") for number in range(3)]
    keys = {schema: [add_key(schema, owner_ref=f"auth.user:{user.pk}") for user in users] for schema in schemas}
    request = RequestFactory().get("/")
    request.user = root
    with schema_context("public"):
        assert pages.get_deleted_objects(users, request)[0]
        assert "owned_keys" not in flatten_fieldsets(pages.get_fieldsets(request, users[0]))
        users[0].delete()
        User.objects.filter(pk=users[1].pk).delete()
    with schema_context(schemas[0]):
        assert "owned_keys" in flatten_fieldsets(pages.get_fieldsets(request, User.objects.get(pk=users[2].pk)))
        User.objects.get(pk=users[2].pk).delete()
        assert not APIKey.objects.get(pk=keys[schemas[0]][2].pk).is_active
    assert {ask(schema, key.key) for schema in schemas for key in keys[schema]} == {401}


def in_a_thread(act: Callable[[], object]) -> None:
    """Run something on connections of its own, which begin in the public schema."""

    def run_and_close() -> None:
        try:
            act()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(run_and_close).result()


def commands_work_in_the_tenant_they_are_run_for() -> None:
    clear("acme", "globex")
    token = run("tenant_command", "--schema", "globex", "keys_create", "Typed", "--scope", "orders:read").strip()
    assert [ask("globex", token), ask("acme", token)] == [200, 401]
    listed = json.loads(run("tenant_command", "--schema", "globex", "keys_list", "--json"))
    assert [row["name"] for row in listed] == ["Typed"]
    old = {"at": timezone.now() - timedelta(days=900), "method": "GET"}
    for schema in ("acme", "globex"):
        with schema_context(schema):
            AuditEvent.objects.create(event="used", key_name="old", **old)
    run("tenant_command", "--schema", "globex", "keys_prune", "--older-than", "400d")
    assert "old" in {name for _, name, _, _ in log_of("acme")}
    assert "old" not in {name for _, name, _, _ in log_of("globex")}
    run("tenant_command", "--schema", "globex", "keys_partition")
    connection.set_schema("acme")


def a_stream_is_refused(*schemas: str) -> None:
    from django.core.checks import run_checks

    clear(*schemas)
    key = add_key(schemas[0])
    # Nothing listens there: it must be refused before.
    with override_settings(KEYS={"AUDIT_SINK": "redis://127.0.0.1:1/0"}):
        assert "keys.E021" in {message.id for message in run_checks()}
        assert ask(schemas[0], key.key) == 503
    assert log_of(schemas[0]) == []


def steps_for(*schemas: str) -> list[tuple[str, Callable[[], None]]]:
    """Return the steps for the schemas that have keys."""
    for_schemas = (
        each_key_opens_its_own_tenant,
        pending_outcomes_are_written_where_their_rows_are,
        the_timer_finds_the_tenant,
        strangers_are_counted_in_each_tenant,
        rates_are_counted_in_each_tenant,
        a_stream_is_refused,
    )
    alone = (
        a_view_that_changes_the_tenant_changes_no_row_s_place,
        a_guarded_view_of_another_tenant_asks_for_its_key,
        what_is_left_is_refused_where_it_was_presented,
        a_schema_made_and_dropped_while_the_server_runs,
        a_plan_of_one_tenant_serves_no_other,
        commands_work_in_the_tenant_they_are_run_for,
    )
    return [
        *((step.__name__, lambda step=step: step(*schemas)) for step in for_schemas),
        *((step.__name__, step) for step in alone),
    ]
