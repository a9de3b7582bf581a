"""Fields: a key is hashed on its way to the database and its digest is read back; moments keep their instant."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TypeGuard

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import Expression
from django.db.models.lookups import Exact, In
from django.db.models.query_utils import DeferredAttribute
from django.utils.translation import gettext_lazy as _

from .. import moments, tokens
from ..conf import conf
from ..tokens import Secret

# A day from the ends of Python's calendar, for time zones.
EARLIEST, LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


class Digest(str):
    """What the database stores instead of a token. It is not accepted as a key."""

    __slots__ = ()


class Sought(Digest):
    """A digest that was made from a token to find its key."""

    __slots__ = ()


def digest(token: str) -> Digest:
    """Return the digest of a token, with or without `KEYS["PREFIX"]`."""
    return Digest(tokens.digest(tokens.bare(token, conf.PREFIX)))


def digests(token: str) -> tuple[str, ...]:
    """Return each digest by which the token may be stored, with or without `KEYS["PREFIX"]`; ours first.

    Two, or four of a token that begins with it: another system's keys may begin so too, and are digested as a whole.
    """
    bare = tokens.bare(token, conf.PREFIX)
    return tokens.digests(bare) if bare == token else (*tokens.digests(bare), *tokens.digests(token))


def visible_prefix(token: str) -> str:
    """Return the beginning that identifies the key to people; `KEYS["PREFIX"]` is left out."""
    return tokens.visible_prefix(tokens.bare(token, conf.PREFIX))


def told_by(token: str) -> dict[str, Any]:
    """Return the values of a key's fields that its token tells."""
    prefix = visible_prefix(token)
    may_be_guessed = not prefix and tokens.may_be_guessed(tokens.bare(token, conf.PREFIX))
    return {"prefix": prefix, "typed_by_hand": may_be_guessed}


def new_key() -> Secret:
    """Return a new key: `KEYS["PREFIX"]` and 40 hexadecimal characters."""
    return Secret(conf.PREFIX + tokens.generate())


def is_token(value: Any) -> TypeGuard[str]:
    """Tell whether the value of a key is a token, which must be hashed, and not a digest."""
    return isinstance(value, str) and not isinstance(value, Digest)


def stored(value: Any) -> Digest:
    """Return what the row holds for a token or a digest. Raises ValidationError for what can be no key."""
    if isinstance(value, Digest):
        return value
    if not is_token(value) or not tokens.is_presentable(value):
        raise ValidationError(_("A key is 1 to 128 printable ASCII characters."), code="invalid")
    return digest(value)


class KeyAttribute(DeferredAttribute):
    """Marks an assigned token as a secret; a digest from the database is left as it is."""

    def __set__(self, instance: models.Model, value: Any) -> None:
        instance.__dict__[self.field.attname] = Secret(value) if is_token(value) else value


class KeyField(models.CharField):  # type: ignore[type-arg]
    """A unique secret of which the database sees only the digest.

    An assigned token is saved as its digest, and a look-up compares digests. A loaded row has the digest, which
    finds nothing if it is used as a token.
    """

    description = _("A secret, kept as a digest")
    descriptor_class = KeyAttribute

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # 160 leaves room for a longer digest with another tag.
        super().__init__(*args, **{"max_length": 160, "unique": True, "default": new_key, "editable": False, **kwargs})

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        name, path, args, kwargs = super().deconstruct()
        for implied in ("max_length", "unique", "default", "editable"):
            kwargs.pop(implied, None)
        if not self.unique:  # in a table of a history, which holds each key often
            kwargs["unique"] = False
        return name, path, args, kwargs

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        # The long name of PostgreSQL's type avoids the second, LIKE index that Django adds to a unique `varchar`: a
        # quarter of the table's bytes, for searches that nobody makes on a digest.
        if connection.vendor == "postgresql":
            return f"character varying({self.max_length})"
        return super().db_type(connection)

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        parameters = super().db_parameters(connection)
        if connection.vendor == "mysql":
            # Compare bytes, whatever the table's collation does with upper and lower case.
            parameters["collation"] = "ascii_bin"
        return parameters

    def get_lookup(self, lookup_name: str) -> Any:
        # The order and the first characters of a digest mean nothing.
        return super().get_lookup(lookup_name) if lookup_name in {"exact", "in", "isnull"} else None

    def get_transform(self, name: str) -> None:
        return None

    def from_db_value(
        self, value: str | None, expression: Expression, connection: BaseDatabaseWrapper
    ) -> Digest | None:
        return None if value is None else Digest(value)

    def get_prep_value(self, value: Any) -> Any:
        """Hash a looked-up value, a stored digest too, so that a digest does not find its own row."""
        is_ready = value is None or isinstance(value, Sought) or hasattr(value, "resolve_expression")
        return value if is_ready else digest(str(value))

    def get_db_prep_save(self, value: Any, connection: BaseDatabaseWrapper) -> Any:
        if value is None or hasattr(value, "as_sql"):
            return value
        return str(stored(value))

    def to_python(self, value: Any) -> Any:
        """Read a fixture, which holds the digest, or a token that somebody wrote into it."""
        return Digest(value) if is_token(value) and tokens.is_digest(value) else value

    def clean(self, value: Any, model_instance: models.Model | None) -> Any:
        # Without to_python(): nobody may store a digest of their own by full_clean().
        self.validate(value, model_instance)
        return value

    def value_from_object(self, obj: models.Model) -> Any:
        """Return the digest, for fixtures, forms and `model_to_dict`."""
        value = super().value_from_object(obj)
        return value if value is None or isinstance(value, Digest) else digest(value)

    def value_to_string(self, obj: models.Model) -> str:
        return str(self.value_from_object(obj))


class KeyLookup(models.Lookup):
    """Keeps the digest of a looked-up token. Django would keep the token beside it."""

    def __init__(self, lhs: Any, rhs: Any) -> None:
        super().__init__(lhs, rhs)
        self._constructor_args: Any = ((lhs, self.rhs), {})


@KeyField.register_lookup
class KeyIn(KeyLookup, In):
    def get_prep_lookup(self) -> Any:
        if not hasattr(self.rhs, "resolve_expression"):
            self.rhs = [sought for value in self.rhs for sought in _sought(value)]
        return super().get_prep_lookup()


@KeyField.register_lookup
class KeyExact(KeyLookup, Exact):
    def get_prep_lookup(self) -> Any:
        is_token = isinstance(self.rhs, str) and not isinstance(self.rhs, Sought)
        return tuple(_sought(self.rhs)) if is_token else super().get_prep_lookup()

    def as_sql(self, compiler: Any, connection: BaseDatabaseWrapper) -> Any:
        if isinstance(self.rhs, tuple):
            return KeyIn(self.lhs, self.rhs).as_sql(compiler, connection)
        return super().as_sql(compiler, connection)


def _sought(value: Any) -> Iterable[Any]:
    """Return each digest by which the token may be stored; any other value as it is."""
    is_token = isinstance(value, str) and not isinstance(value, Sought)
    return map(Sought, digests(value)) if is_token else [value]


def _tell(field: Any, instance: models.Model) -> None:
    key = instance.__dict__.get("key")
    if isinstance(key, Secret):
        setattr(instance, field.attname, told_by(key)[field.attname])


class PrefixField(models.CharField):  # type: ignore[type-arg]
    """The beginning of the key that people see, set whenever a new key is saved."""

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        _tell(self, model_instance)
        return super().pre_save(model_instance, add)


class TypedByHandField(models.BooleanField):  # type: ignore[type-arg]
    """Whether the key may be guessed, set whenever a new key is saved. Of a digest nobody can tell."""

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        _tell(self, model_instance)
        return super().pre_save(model_instance, add)


class ExactTextField(models.CharField):  # type: ignore[type-arg]
    """A text of which no two are equal that differ in case or accents, whatever the database's collation does."""

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        parameters = super().db_parameters(connection)
        if connection.vendor == "mysql":
            parameters["collation"] = "utf8mb4_bin"
        return parameters


def in_database(moment: datetime, connection: BaseDatabaseWrapper) -> datetime:
    """Return a kept moment for a parameter of SQL: as an instant where the database keeps instants.

    PostgreSQL would take a naive time in the hour that comes twice for the second one, always.
    """
    is_exact = settings.USE_TZ or not connection.features.supports_timezones
    return moment if is_exact else moments.instant(moment)


def keeps_local_time(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether the database keeps local time without an offset."""
    return not (settings.USE_TZ or connection.features.supports_timezones)


class _DateTimeColumn(models.DateTimeField):  # type: ignore[type-arg]
    """To migrations it is Django's field, whose column it has."""

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.DateTimeField", args, kwargs


class MomentField(_DateTimeColumn):
    """Django's field. With `USE_TZ = False` it takes aware moments too, and keeps instants where the database does.

    A time of PostgreSQL that Python does not have, such as infinity, is read as the end of the calendar on its side.
    """

    def select_format(self, compiler: Any, sql: str, params: Any) -> tuple[str, Any]:
        """Read such a time, on which the driver would fail: no page is to fail because of one row."""
        # In a subquery it has been done.
        if compiler.connection.vendor != "postgresql" or sql.startswith("("):
            return sql, params
        ends = (("< '0001-01-01 00:00:00+00'", EARLIEST), ("> '9999-12-31 23:59:59.999999+00'", LATEST))
        cases = " ".join(f"WHEN {sql} {beyond} THEN CAST('{end}' AS timestamptz)" for beyond, end in ends)
        return f"CASE {cases} ELSE {sql} END", [*params] * 3

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """Let the instance hold what its row will hold."""
        value = super().pre_save(model_instance, add)
        if isinstance(value, datetime) and value.tzinfo is not None and not settings.USE_TZ:
            value = moments.kept(value)
            setattr(model_instance, self.attname, value)
        return value

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return moments.kept(value) if isinstance(value, datetime) and not settings.USE_TZ else value

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        value = value if prepared else self.get_prep_value(value)
        value = in_database(value, connection) if isinstance(value, datetime) else value
        return connection.ops.adapt_datetimefield_value(value)


class CreationField(MomentField):
    """When a row was made: now, or the moment that `made_at` of the instance says, if another system made it."""

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        value = super().pre_save(model_instance, add)
        if add and (at := getattr(model_instance, "made_at", None)) is not None:
            value = moments.kept(at)
            setattr(model_instance, self.attname, value)
        return value


class InstantField(_DateTimeColumn):
    """A moment that is aware and kept in UTC whatever `USE_TZ` is, so that it outlives a change of that setting."""

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return moments.instant(value) if isinstance(value, datetime) else value

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        value = value if prepared else self.get_prep_value(value)
        if isinstance(value, datetime) and keeps_local_time(connection):
            value = value.replace(tzinfo=None)
        return connection.ops.adapt_datetimefield_value(value)

    def from_db_value(
        self, value: datetime | None, expression: Expression, connection: BaseDatabaseWrapper
    ) -> datetime | None:
        if value is None or value.tzinfo is not None:
            return value
        # The database returned local time where it keeps instants, else what was written.
        return moments.instant(value) if connection.features.supports_timezones else value.replace(tzinfo=UTC)


class _JSONColumn(models.JSONField):
    """To migrations it is Django's field, whose column it has."""

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.JSONField", args, kwargs


class ListField(_JSONColumn):
    """Django's field, to whose validators only a list may be empty: it checks no text, object or null that is."""

    empty_values = ([], ())


class SortedJSONField(_JSONColumn):
    """Django's field, whose text has the keys of objects in order: one spelling of one value, on every database."""

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        return super().get_db_prep_value(_in_order(value), connection, prepared)


def _in_order(value: Any) -> Any:
    """Return the value with the keys of its objects in order."""
    if isinstance(value, dict):
        return {key: _in_order(value[key]) for key in sorted(value, key=str)}
    return [*map(_in_order, value)] if isinstance(value, list | tuple) else value


def default_scopes() -> list[str]:
    """Return a new list for each new key, from `KEYS["DEFAULT_SCOPES"]`."""
    return list(conf.DEFAULT_SCOPES)
