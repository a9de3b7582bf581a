"""The packages whose keys are known: where they are, what is read of them, and what a key loses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import router
from django.db.models import Model

from .. import tokens
from ..models import fields
from .taking import Found

UNLIKE_OURS = "the package's settings make keys that are too short, too long or hashed in another way"
UNSENDABLE = "no header can carry it"
THE_USER = (
    "The user. request.user is the service that the key stands for, such as key:alice for the user alice, without "
    "permissions."
)


@dataclass(frozen=True)
class Source:
    """A package to import from: its model, the fields read from it, and what a key loses."""

    model: str
    columns: tuple[str, ...]
    read: Callable[[type[Model]], Iterator[Found]]
    losses: tuple[str, ...]


def _from_authtoken(model: type[Model]) -> Iterator[Found]:
    for row in _rows(model, "user"):
        obstacle = "" if tokens.is_presentable(row.key) else UNSENDABLE
        digest, prefix = str(fields.digest(row.key)), fields.visible_prefix(row.key)
        yield Found(row.user.get_username(), row.created, digest, prefix, row.user.is_active, obstacle=obstacle)


def _from_knox(model: type[Model]) -> Iterator[Found]:
    from knox import crypto
    from knox.settings import knox_settings

    sample = knox_settings.TOKEN_PREFIX + crypto.create_token_string()
    obstacle = _obstacle(sample, crypto.hash_token(sample))
    for row in _rows(model, "user"):
        digest = f"sha512${row.digest}"
        prefix = row.token_key.removeprefix(knox_settings.TOKEN_PREFIX)[: tokens.PREFIX_LENGTH]
        name, is_active = row.user.get_username(), row.user.is_active
        yield Found(name, row.created, digest, prefix, is_active, row.expiry, obstacle)


def _from_api_key(model: Any) -> Iterator[Found]:
    sample, _, stored = model.objects.key_generator.generate()
    unlike_ours = _obstacle(sample, stored.partition("$$")[2])
    for row in _rows(model):
        algorithm, _, hexadecimal = row.hashed_key.partition("$")
        slow = f"hashed with {algorithm}; version 3 of the package hashes it anew when its client next calls"
        obstacle = unlike_ours if algorithm == "sha512" else slow
        digest, prefix = f"sha512${hexadecimal.removeprefix('$')}", row.prefix[: tokens.PREFIX_LENGTH]
        yield Found(row.name, row.created, digest, prefix, not row.revoked, row.expiry_date, obstacle)


def _rows(model: Any, *related: str) -> Iterator[Any]:
    # A replica that lags would leave out the newest.
    rows = model._default_manager.using(router.db_for_write(model)).order_by("created")
    return (rows.select_related(*related) if related else rows).iterator()  # type: ignore[no-any-return]


def _obstacle(sample: str, hexadecimal: str) -> str:
    """Return why a key like this sample, just made by the package, would not match what the package stores of it."""
    is_found = tokens.is_presentable(sample) and f"sha512${hexadecimal}" in fields.digests(sample)
    return "" if is_found else UNLIKE_OURS


def _header(word: str) -> str:
    return (
        f"The header. Clients send “Authorization: {word} <key>”: give the views a KeyringAuthentication with"
        f' keyword = "{word}" and keyrings = (DatabaseKeyring(),).'
    )


SOURCES = {
    "authtoken": Source(
        "authtoken.Token",
        ("key", "user", "created"),
        _from_authtoken,
        (THE_USER, _header("Token"), "The plain tokens stay in authtoken_token until you delete them there."),
    ),
    "knox": Source(
        "knox.AuthToken",
        ("digest", "token_key", "user", "created", "expiry"),
        _from_knox,
        (
            THE_USER,
            _header("Token"),
            "The next token. No log-in makes one, and without AUTO_REFRESH a key expires when it does now.",
        ),
    ),
    "api-key": Source(
        "rest_framework_api_key.APIKey",
        ("hashed_key", "prefix", "name", "created", "revoked", "expiry_date"),
        _from_api_key,
        (
            "API_KEY_CUSTOM_HEADER. “Authorization: Api-Key <key>” is read as it was; for another header, subclass"
            " APIKeyAuthentication and set `header`.",
            "What a model of your own adds to a key, and which permission class it passed: scopes are for that.",
        ),
    ),
}


def model_of(source: Source, label: str = "") -> type[Model]:
    """Return the model to read: the package's own, or the one named `label`.

    Raises LookupError, with a sentence, if it is not installed or lacks a field.
    """
    label = label or source.model
    try:
        model = apps.get_model(label)
    except (LookupError, ValueError):
        raise LookupError(f"There is no model {label}: is its app in INSTALLED_APPS?") from None
    missing = set(source.columns) - {column.name for column in model._meta.get_fields()}
    if missing:
        raise LookupError(f"{label} is not like {source.model}: it has no field {sorted(missing)[0]}.")
    return model
