"""The seals' table. `audit.sealing` explains what a seal is."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any, ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from .fields import InstantField


class AuditSeal(models.Model):
    """A seal: exactly these rows existed up to `last_id`, apart from those of earlier seals."""

    number = models.BigAutoField(_("number"), primary_key=True)
    format = models.PositiveSmallIntegerField(_("format"))
    made_at = InstantField(_("made at"))
    first_id = models.BigIntegerField(_("first row"))
    last_id = models.BigIntegerField(_("last row"))
    since = InstantField(_("time of the oldest row"))
    until = InstantField(_("time of the newest row"))
    count = models.PositiveIntegerField(_("rows"))
    entries = models.BinaryField(_("what is kept of the rows"))
    previous = models.CharField(_("digest of the seal before it"), max_length=64, blank=True)
    digest = models.CharField(_("digest"), max_length=64)
    key_id = models.CharField(_("key"), max_length=8)
    signature = models.CharField(_("signature"), max_length=64)

    objects: ClassVar[models.Manager[AuditSeal]] = models.Manager()

    class Meta:
        verbose_name = _("seal of the audit log")
        verbose_name_plural = _("seals of the audit log")
        ordering = ("number",)
        default_permissions = ()  # it is not in the admin

    def __str__(self) -> str:
        return f"seal {self.number} of {self.made_at:%Y-%m-%d %H:%M:%S %Z}"

    def described(self) -> dict[str, Any]:
        """Return what is stored elsewhere: all but the entries, which are replaced by their digest."""
        return {
            **{
                field: getattr(self, field)
                for field in ("number", "format", "first_id", "last_id", "count", "previous")
            },
            **{field: _written(getattr(self, field)) for field in ("made_at", "since", "until")},
            "entries": hashlib.sha256(self.entries).hexdigest(),
            **{field: getattr(self, field) for field in ("key_id", "digest", "signature")},
        }

    def computed_digest(self) -> str:
        """Return the digest of everything in the seal, except the digest and its signature."""
        said = {name: value for name, value in self.described().items() if name not in {"digest", "signature"}}
        return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
