"""Which audit log this is: a row of its own, so that a stream and its log recognise each other."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.db import models


class AuditLog(models.Model):
    """The log in this database: its random id, and the database in which it got it.

    A copy of the database holds the same id, and `home` is not the copy's.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    home = models.CharField(max_length=255, unique=True)  # two processes that give the log an id give it one

    objects: ClassVar[models.Manager[AuditLog]] = models.Manager()

    class Meta:
        default_permissions = ()  # it is not in the admin

    def __str__(self) -> str:
        return f"log {self.id}"
