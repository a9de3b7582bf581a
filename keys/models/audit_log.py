"""Which audit log this is: a row of its own, so that a stream and its log recognise each other."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.db import models


class AuditLog(models.Model):
    """The log in this database: its random id, and the database in which it got it.

    A copy of the database holds the same id, and `home` is not the copy's.
    """

    # Unique, so that two processes give the log one id; the primary key, so that a dump can be loaded over it.
    home = models.CharField(primary_key=True, max_length=255, editable=False)
    identity = models.UUIDField(default=uuid.uuid4, editable=False)

    objects: ClassVar[models.Manager[AuditLog]] = models.Manager()

    class Meta:
        default_permissions = ()  # it is not in the admin

    def __str__(self) -> str:
        return f"log {self.identity}"
