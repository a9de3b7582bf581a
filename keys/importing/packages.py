"""The packages whose keys are known: where they are, which field says what, and what a key loses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model

from .. import tokens
from ..models import fields
from . import hashes, tables
from .granting import Grants
from .tables import Table, TableError

UNLIKE_OURS = "the package's settings make keys that are too long or hashed in another way"
THE_USER = (
    "The user. request.user is the service that the key stands for, such as key:alice for the user alice, without"
    " permissions; with --owner user the key is the user's, and a guard with acts_as_owner goes on as the user."
)


@dataclass(frozen=True)
class Reading:
    """How the records of a package are read: a kind of `hashes.KINDS`, and why none of them can come."""

    digest: str
    objection: str = ""
    shorten: Callable[[str], str] = str


@dataclass(frozen=True)
class Package:
    """A package to import from: its model, its fields by `tables.ROLES`, how they are read, and what a key loses.

    Where `is_of_users`, keys have the name of the field `user`, and are active if that is.
    """

    model: str
    paths: Mapping[str, str]
    reading: Callable[[Any], Reading]
    losses: tuple[str, ...]
    is_of_users: bool = False

    def table(self, label: str, paths: Mapping[str, str], grants: Grants, using: str) -> Table:
        """Return the records to read, of the package's model or of the one named `label`.

        `paths` are further fields, or stand in place of the package's own. Raises TableError.
        """
        model = tables.find_model(label or _model_in_use(self.model))
        own = {**self.paths, **(_of_users() if self.is_of_users else {})}
        names = {one.name for one in model._meta.get_fields()}
        for path in own.values():
            if (name := path.partition("__")[0]) not in names:
                raise TableError(f"{model._meta.label} is not like {self.model}: it has no field {name}.")
        reading = self.reading(model)
        return Table(model, {**own, **paths}, reading.digest, grants, using, reading.objection, reading.shorten)


def _model_in_use(label: str) -> str:
    """Return the label of the model, or of the one that a project has put in its place."""
    try:
        return str(apps.get_model(label)._meta.swapped or label)
    except LookupError:
        return label


def _of_users() -> dict[str, str]:
    user: Any = get_user_model()
    has_switch = any(one.name == "is_active" for one in user._meta.concrete_fields)
    return {"name": f"user__{user.USERNAME_FIELD}", **({"active": "user__is_active"} if has_switch else {})}


def _authtoken(model: Any) -> Reading:
    return Reading(hashes.PLAIN)


def _knox(model: Any) -> Reading:
    from knox import crypto
    from knox.settings import knox_settings

    def shorten(text: str) -> str:
        prefix = knox_settings.TOKEN_PREFIX
        return text[: (len(prefix) if text.startswith(prefix) else 0) + tokens.PREFIX_LENGTH]

    sample = knox_settings.TOKEN_PREFIX + crypto.create_token_string()
    digest, objection = _kind(sample, crypto.hash_token(sample))
    return Reading(digest, objection, shorten)


def _api_key(model: Any) -> Reading:
    sample, _, stored = model.objects.key_generator.generate()
    return Reading(*_kind(sample, stored.partition("$")[2].removeprefix("$")))


def _kind(sample: str, hexadecimal: str) -> tuple[str, str]:
    """Return how a key like this sample, just made by the package, is hashed, or why it would not be found here."""
    known = fields.digests(sample) if tokens.is_presentable(sample) else ()
    for kind in (hashes.SHA_256, hashes.SHA_512):
        if f"{kind}${hexadecimal}" in known:
            return kind, ""
    return hashes.SHA_512, UNLIKE_OURS


def _header(word: str) -> str:
    return (
        f"The header. Clients send “Authorization: {word} <key>”: give the views a KeyringAuthentication with"
        f' keyword = "{word}" and keyrings = (DatabaseKeyring(),).'
    )


PACKAGES = {
    "authtoken": Package(
        "authtoken.Token",
        {"key": "key", "created": "created"},
        _authtoken,
        (THE_USER, _header("Token"), "The plain tokens stay in authtoken_token until you delete them there."),
        is_of_users=True,
    ),
    "knox": Package(
        "knox.AuthToken",
        {"key": "digest", "prefix": "token_key", "created": "created", "expires": "expiry"},
        _knox,
        (
            THE_USER,
            _header("Token"),
            "The next token, which no log-in makes here.",
            "AUTO_REFRESH. A key expires when its token would now, and no use puts that off.",
        ),
        is_of_users=True,
    ),
    "api-key": Package(
        "rest_framework_api_key.APIKey",
        {
            "key": "hashed_key",
            "prefix": "prefix",
            "name": "name",
            "created": "created",
            "revoked": "revoked",
            "expires": "expiry_date",
        },
        _api_key,
        (
            "API_KEY_CUSTOM_HEADER. “Authorization: Api-Key <key>” is read as it was; for another header, subclass"
            " APIKeyAuthentication and set `header`.",
            "What a model of your own adds to a key, and which permission class it passed: scopes are for that.",
            "What version 2 hashed with PBKDF2. Version 3 hashes it anew when its client next calls: then it can come.",
        ),
    ),
}
