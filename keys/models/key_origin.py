"""Where keys came from: which record of another system became which key."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

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
        return f"{self.source} {self.ref}"
