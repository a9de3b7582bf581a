"""Where keys came from: which record of another system became which key."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

from django.db import models, router
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from .. import tokens
from .fields import ExactTextField, InstantField


class KeyOrigin(models.Model):
    """One record of another system that became a key, by an import or at its first use.

    The row stays when the key is deleted, so that its record never becomes a key again.
    """

    source = ExactTextField(_("source"), max_length=100, help_text=_("The other system, such as authtoken.Token."))
    # Never the secret, also where that is the primary key of the other table.
    ref = ExactTextField(_("reference"), max_length=255, help_text=_("The record there, such as its primary key."))
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
        """Return the other system and the record there, for people; a digest tells them nothing."""
        if not self.ref or tokens.is_digest(self.ref):
            return str(self.source)
        return _now("%(source)s, record %(record)s") % {"source": self.source, "record": self.ref}


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
