"""`KeyField`: hashed on the way to the database, a digest on the way back."""

from typing import Any, TypeGuard

from django.core.exceptions import ValidationError
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import Expression
from django.db.models.lookups import Exact, In
from django.db.models.query_utils import DeferredAttribute
from django.utils.translation import gettext_lazy as _

from .. import tokens
from ..conf import conf
from ..tokens import Secret


class Digest(str):
    """What the database holds in a token's place. It opens nothing."""

    __slots__ = ()


def digest(token: str) -> Digest:
    """Return the digest of a token as it was handed out or presented, with or without `KEYS["PREFIX"]`."""
    return Digest(tokens.digest(tokens.bare(token, conf.PREFIX)))


def visible_prefix(token: str) -> str:
    """Return the 8 hexadecimal characters by which people know the key, with or without `KEYS["PREFIX"]`."""
    return tokens.visible_prefix(tokens.bare(token, conf.PREFIX))


def new_key() -> Secret:
    """Return a new key as it is handed out: `KEYS["PREFIX"]` and 40 hexadecimal characters."""
    return Secret(conf.PREFIX + tokens.generate())


def is_token(value: Any) -> TypeGuard[str]:
    """Tell whether the value of a key is a token, to be hashed, and not what the database holds."""
    return isinstance(value, str) and not isinstance(value, Digest)


class KeyAttribute(DeferredAttribute):
    """Marks what is assigned as a secret, unless it came from the database."""

    def __set__(self, instance: models.Model, value: Any) -> None:
        instance.__dict__[self.field.attname] = Secret(value) if is_token(value) else value


class KeyField(models.CharField):  # type: ignore[type-arg]
    """A unique secret of which the database only ever sees the digest.

    Assign a token, and its digest is saved. Look a token up, and digests are compared. Load a row, and
    the attribute is the digest, which as a token finds nothing.
    """

    description = _("A secret, kept as a digest")
    descriptor_class = KeyAttribute

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # 160 leaves room for a longer digest under another tag.
        super().__init__(*args, **{"max_length": 160, "unique": True, "default": new_key, "editable": False, **kwargs})

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        name, path, args, kwargs = super().deconstruct()
        for implied in ("max_length", "unique", "default", "editable"):
            kwargs.pop(implied, None)
        return name, path, args, kwargs

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        # By its long name PostgreSQL's type escapes the second, LIKE index that Django adds to a unique
        # `varchar`: a quarter of the table's bytes for a search that nobody can make on a digest.
        if connection.vendor == "postgresql":
            return f"character varying({self.max_length})"
        return super().db_type(connection)

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        parameters = super().db_parameters(connection)
        if connection.vendor == "mysql":
            # Byte by byte, whatever the table's collation makes of upper and lower case.
            parameters["collation"] = "ascii_bin"
        return parameters

    def get_lookup(self, lookup_name: str) -> Any:
        # A digest has no order and no beginning that would mean anything.
        return super().get_lookup(lookup_name) if lookup_name in {"exact", "in", "isnull"} else None

    def get_transform(self, name: str) -> None:
        return None

    def from_db_value(
        self, value: str | None, expression: Expression, connection: BaseDatabaseWrapper
    ) -> Digest | None:
        return None if value is None else Digest(value)

    def get_prep_value(self, value: Any) -> Any:
        """Hash what is looked up; a stored digest too, so that it is no key to its own row."""
        return value if value is None or hasattr(value, "resolve_expression") else digest(str(value))

    def get_db_prep_save(self, value: Any, connection: BaseDatabaseWrapper) -> Any:
        if value is None or hasattr(value, "as_sql"):
            return value
        if isinstance(value, Digest):
            return str(value)
        if not is_token(value) or not tokens.is_presentable(value):
            raise ValidationError(_("A key is 1 to 128 printable ASCII characters."), code="invalid")
        return str(digest(value))

    def to_python(self, value: Any) -> Any:
        """Read a fixture, which holds the digest, or the token where it was written by hand."""
        return Digest(value) if is_token(value) and tokens.is_digest(value) else value

    def clean(self, value: Any, model_instance: models.Model | None) -> Any:
        # Not through to_python(): nobody may plant a digest by calling full_clean().
        self.validate(value, model_instance)
        return value

    def value_from_object(self, obj: models.Model) -> Any:
        """Return the digest: what a fixture, a form or `model_to_dict` may see."""
        value = super().value_from_object(obj)
        return value if value is None or isinstance(value, Digest) else digest(value)

    def value_to_string(self, obj: models.Model) -> str:
        return str(self.value_from_object(obj))


class KeyLookup(models.Lookup):
    """Holds the digest of what is looked up, and not the token that Django would keep beside it."""

    def __init__(self, lhs: Any, rhs: Any) -> None:
        super().__init__(lhs, rhs)
        self._constructor_args: Any = ((lhs, self.rhs), {})


@KeyField.register_lookup
class KeyExact(KeyLookup, Exact):
    pass


@KeyField.register_lookup
class KeyIn(KeyLookup, In):
    pass


class PrefixField(models.CharField):  # type: ignore[type-arg]
    """The first 8 hexadecimal characters of the key, taken from it whenever a new one is saved."""

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        key = model_instance.__dict__.get("key")
        if isinstance(key, Secret):
            setattr(model_instance, self.attname, visible_prefix(key))
        return super().pre_save(model_instance, add)


def default_scopes() -> list[str]:
    """Return a list of its own for each new key, from `KEYS["DEFAULT_SCOPES"]`."""
    return list(conf.DEFAULT_SCOPES)
