"""Says where a row is: in which database, and in which schema if each tenant has its own, as with django-tenants.

What is written late must be written where its row is. By then the connection may be another thread's, or may have been
switched to another tenant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from django.apps import apps
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

if TYPE_CHECKING:
    from ..models import APIKey


class Place(NamedTuple):
    """A database, and a schema in it; without a schema there is only one log in the database.

    `includes_public` is django-tenants' option to find the tables of the public schema too.
    """

    alias: str
    schema: str = ""
    includes_public: bool = True


def has_schemas(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether each tenant has keys and a log in a schema of its own."""
    return hasattr(connection, "schema_name") and not _is_shared()


def place_of(connection: BaseDatabaseWrapper) -> Place:
    """Return where the connection reads and writes now."""
    schema = getattr(connection, "schema_name", None)
    if not schema or _is_shared():
        return Place(connection.alias)
    return Place(connection.alias, schema, getattr(connection, "include_public_schema", True))


@cache
def may_change() -> bool:
    """Tell whether a request may be in one place now and in another one later."""
    return any(hasattr(connection, "schema_name") for connection in connections.all())


def can_return_to(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether another connection can be brought to where this one is.

    A backend with cursors of its own may choose by them where it reads and writes, and cannot be asked. A database in
    memory belongs to its connection, or locks whole tables between two.
    """
    if connection.vendor == "sqlite" and connection.is_in_memory_db():  # type: ignore[attr-defined]
        return False
    if hasattr(connection, "schema_name"):
        return hasattr(connection, "set_schema") and hasattr(connection, "set_tenant")
    backend = type(connection)
    return backend.cursor is BaseDatabaseWrapper.cursor and backend._cursor is BaseDatabaseWrapper._cursor  # type: ignore[attr-defined]


@contextmanager
def at(place: Place) -> Iterator[BaseDatabaseWrapper]:
    """Yield this thread's connection to the place; then it is again where it was."""
    connection: Any = connections[place.alias]
    if not place.schema or place == place_of(connection):
        yield connection
        return
    tenant, includes_public = connection.tenant, connection.include_public_schema
    connection.set_schema(place.schema, place.includes_public)
    try:
        yield connection
    finally:
        connection.set_tenant(tenant, includes_public)


@contextmanager
def beside_tables(alias: str) -> Iterator[BaseDatabaseWrapper]:
    """Yield this thread's connection so that what is created lies in the schema of the keys' tables.

    In the schema of a tenant that shares those of the public one, it would be dropped with the tenant.
    """
    connection = connections[alias]
    schema = getattr(connection, "schema_name", None)
    is_guest = schema and schema != _public() and _is_shared()
    with at(Place(alias, _public()) if is_guest else Place(alias)) as connection:
        yield connection


def migrated_place(alias: str) -> Place | None:
    """Return the place whose tables were just migrated; None if the keys' tables are in another schema."""
    connection = connections[alias]
    schema = getattr(connection, "schema_name", None)
    if schema and schema != _public() and _is_shared():
        return None
    return place_of(connection)


def number_in(key: APIKey) -> str:
    """Return a text for the key and its predecessors that no other key of the project has, in whatever place."""
    alias, number = key._state.db or DEFAULT_DB_ALIAS, str(key.family or key.pk)
    connection = connections[alias]
    if hasattr(connection, "schema_name") and (schema := place_of(connection).schema):
        number = f"{quote(schema)}:{number}"  # not every cache takes a blank in its keys
    return number if alias == DEFAULT_DB_ALIAS else f"{alias}:{number}"


def finds_other_tables(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether a tenant finds the keys' tables of the public schema until its own exist."""
    if not has_schemas(connection):
        return False
    types = getattr(settings, "TENANT_TYPES", None)
    return _is_in(types[_public()]["APPS"] if types else getattr(settings, "SHARED_APPS", ()))


def lacks_keys(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether keys are in the tenants' schemas alone, and the connection is in the public one."""
    is_public = getattr(connection, "schema_name", None) == _public()
    return is_public and has_schemas(connection) and not finds_other_tables(connection)


def mixes_tenants(connection: BaseDatabaseWrapper, app: str) -> bool:
    """Tell whether all tenants share the keys, and each has rows of its own of the app with that label."""
    return hasattr(connection, "schema_name") and _is_shared() and not _is_shared(app)


def _is_shared(app: str = "keys") -> bool:
    """Tell whether all tenants share the app's tables of the public schema, by the settings of django-tenants."""
    if types := getattr(settings, "TENANT_TYPES", None):
        return not any(_is_in(of_type["APPS"], app) for name, of_type in types.items() if name != _public())
    names = getattr(settings, "TENANT_APPS", None)
    return names is not None and not _is_in(names, app)


def _is_in(names: Iterable[str], app: str = "keys") -> bool:
    config = apps.get_app_config(app)
    return not {config.name, f"{type(config).__module__}.{type(config).__qualname__}"}.isdisjoint(names)


def _public() -> str:
    """Return the name of the schema that all tenants share."""
    return str(getattr(settings, "PUBLIC_SCHEMA_NAME", "public"))
