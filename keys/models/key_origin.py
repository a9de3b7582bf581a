"""Where keys came from: which record of another system became which key."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any, ClassVar

from django.apps import apps
from django.db import models, router
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from .. import tokens
from ..conf import conf
from ..redaction import printable
from .fields import ExactTextField, InstantField, digest, digests, is_token
from .owners import label_of

LONGEST_SOURCE, LONGEST_REF = 100, 255
LONGEST_TOLD = 40  # characters of a reference that people compare; a UUID has 36


class KeyOrigin(models.Model):
    """One record of another system that became a key, by an import or at its first use.

    The row stays when the key is deleted, so that its record never becomes a key again.
    """

    source = ExactTextField(
        _("source"), max_length=LONGEST_SOURCE, help_text=_("The other system, such as authtoken.Token.")
    )
    # Never the secret, also where that is the primary key of the other table.
    ref = ExactTextField(
        _("reference"), max_length=LONGEST_REF, help_text=_("The record there, such as its primary key.")
    )
    # Keeps the id of a deleted key, so there is no constraint and no cascade.
    api_key = models.ForeignKey(
        "keys.APIKey", on_delete=models.DO_NOTHING, db_constraint=False, related_name="origins",
        verbose_name=_("API key"),
    )  # fmt: skip
    at = InstantField(_("at"))

    objects: ClassVar[models.Manager[Any]] = models.Manager()

    class Meta:
        default_permissions = ()
        verbose_name = _("origin of a key")
        verbose_name_plural = _("origins of keys")
        constraints = (models.UniqueConstraint(fields=("source", "ref"), name="keys_origin_once"),)

    def __str__(self) -> str:
        """Return the other system and the record there, for people."""
        if not self.told_ref:
            return str(self.source)
        return _now("%(source)s, record %(record)s") % {"source": self.source, "record": self.told_ref}

    @property
    def told_ref(self) -> str:
        """The reference, for people; empty if it tells them nothing, as a digest, which is a key of some packages."""
        return self.ref if len(self.ref) <= LONGEST_TOLD else ""


def has_origins() -> bool:
    """Tell whether any key came from another system."""
    return _written().exists()


def origins_of(keys: Collection[Any]) -> dict[Any, list[KeyOrigin]]:
    """Return where the keys with these ids came from, of those that did, from one query."""
    found: dict[Any, list[KeyOrigin]] = {}
    for origin in _written().filter(api_key__in=keys).order_by("pk"):
        found.setdefault(origin.api_key_id, []).append(origin)
    return found


def _written() -> models.QuerySet[KeyOrigin]:
    # A replica may lag.
    return KeyOrigin.objects.using(router.db_for_write(KeyOrigin))


@cache
def source_of(named: str | type[models.Model]) -> str:
    """Return the name by which records of another system are known: of a model its label, such as `authtoken.token`.

    A text that names no model is the name of a system that is no table here, in lower case.
    """
    try:
        model = apps.get_model(named) if isinstance(named, str) else named
    except (LookupError, ValueError):
        return printable(str(named).strip().lower())[:LONGEST_SOURCE]
    return label_of(model)[:LONGEST_SOURCE]


def ref_of(pk: object, key: str) -> str:
    """Return the reference of a record by its primary key there: the text of it, and never the key.

    `key` is the record's token, or the digest of it, and empty where nobody knows it. Where the primary key is the
    token or holds it, as authtoken's, or is no short text, its own digest stands for it.
    """
    text = str(pk)
    if not key:
        return text if _is_plain(text) else str(digest(text))
    is_key = digest(text) == digest(key) if is_token(key) else key in digests(text)
    bare = tokens.bare(key, conf.PREFIX) if is_token(key) else ""
    holds_key = len(bare) >= tokens.PREFIX_LENGTH and bare in text
    return text if _is_plain(text) and not (is_key or holds_key) else str(digest(text))


def _is_plain(text: str) -> bool:
    return 0 < len(text) <= LONGEST_REF and printable(text) == text


def possible_refs(pk: object) -> tuple[str, str]:
    """Return what may stand in `ref` for a record whose key nobody knows here: `ref_of` chooses one of the two."""
    return ref_of(pk, ""), str(digest(str(pk)))
