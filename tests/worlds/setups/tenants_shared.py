"""Tenants with a schema each, which share the keys and the log of the public schema."""

from collections.abc import Callable, Iterator

from tests.worlds.tenancy.settings import *  # noqa: F403
from tests.worlds.tenancy.settings import APPS_OF_ALL

SHARED_APPS = ["django_tenants", "tests.worlds.tenancy", *APPS_OF_ALL, "keys"]
TENANT_APPS = APPS_OF_ALL
INSTALLED_APPS = SHARED_APPS


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    def one_key_opens_all_and_has_one_rate() -> None:
        from tests.worlds.tenancy.steps import add_key, ask, clear, log_of

        clear("public")
        key = add_key("acme", rate="2/hour")
        assert [ask(schema, key.key) for schema in ("acme", "globex", "public")] == [200, 200, 429]
        assert [status for _, _, status, _ in log_of("globex")] == [200, 200, 429]

    yield "one_key_opens_all_and_has_one_rate", one_key_opens_all_and_has_one_rate

    def a_new_tenant_loses_no_outcome() -> None:
        from keys.audit.sinks import backlog
        from tests.worlds.tenancy.steps import LATE, add_key, add_tenant, ask, clear, connection, log_of

        clear("public")
        key = add_key("acme")
        with LATE:
            for _ in range(3):
                ask("acme", key.key)
            tenant = add_tenant("initech")
            backlog.flush()
        assert log_of("acme", flushed=False) == [("used", "of acme", 200, 1)] * 3
        connection.set_schema("public")
        tenant.delete(force_drop=True)
        connection.set_schema("acme")

    yield "a_new_tenant_loses_no_outcome", a_new_tenant_loses_no_outcome

    def what_commands_make() -> None:
        from tests.worlds.tenancy.steps import what_commands_make_lies_beside_the_tables

        what_commands_make_lies_beside_the_tables("public", "acme")

    yield "what_commands_make", what_commands_make
