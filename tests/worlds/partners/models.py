"""Keys of partners: a subclass of the app's model, with foreign keys of its own."""

from typing import ClassVar

from django.db import models

from keys.models import APIKey


class Partner(models.Model):
    name = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.name


class PartnerKey(APIKey):
    partner = models.ForeignKey(Partner, on_delete=models.CASCADE)
    contact = models.ForeignKey(Partner, null=True, on_delete=models.SET_NULL, related_name="contact_of")
    calls = models.IntegerField(default=0)

    UNTOLD: ClassVar[frozenset[str]] = APIKey.UNTOLD | {"calls"}
