"""Tenants with a schema each, and keys in the public schema and in theirs."""

from collections.abc import Callable, Iterator

from tests.worlds.tenancy.settings import *  # noqa: F403
from tests.worlds.tenancy.settings import APPS_OF_ALL

SHARED_APPS = ["django_tenants", "tests.worlds.tenancy", *APPS_OF_ALL, "keys"]
TENANT_APPS = [*APPS_OF_ALL, "keys"]
INSTALLED_APPS = SHARED_APPS


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    from tests.worlds.tenancy import steps

    yield from steps.steps_for("public", "acme", "globex")
    yield "a_tenant_migrated_while_the_server_runs", steps.a_tenant_migrated_while_the_server_runs
    yield "adoption", adoption
    yield "guards_of_others_stay", steps.guards_of_others_stay
    yield "what_commands_make", lambda: steps.what_commands_make_lies_beside_the_tables("globex", "globex")


def adoption() -> None:
    """A key of another system becomes one of the tenant in whose name it is used, and of each that it is used in."""
    from django_tenants.utils import schema_context

    from keys.models import APIKey, KeyOrigin
    from tests.keyrings.old_tokens import TOKEN, uses_of_one

    for schema in ("acme", "globex"):
        with schema_context(schema):
            assert not APIKey.objects.filter(name="Billing").exists()
            assert uses_of_one(TOKEN) == ["created", "used", "used"], schema
            assert KeyOrigin.objects.get().api_key_id == APIKey.objects.get(name="Billing").pk
