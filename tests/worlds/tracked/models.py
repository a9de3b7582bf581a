"""An order, whose changes are kept by whichever package is installed."""

from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import models


class Order(models.Model):
    objects: models.Manager["Order"] = models.Manager()
    name = models.CharField(max_length=100)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)

    if apps.is_installed("simple_history"):
        from simple_history.models import HistoricalRecords

        history: Any = HistoricalRecords()

    def __str__(self) -> str:
        return self.name


if apps.is_installed("reversion"):
    import reversion

    reversion.register(Order)

if apps.is_installed("auditlog"):
    from auditlog.registry import auditlog

    auditlog.register(Order)
