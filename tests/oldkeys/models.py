"""Tables of keys as other systems have them."""

# ruff: noqa: DJ001, DJ008  (as others write them, and without names)

from typing import ClassVar
from uuid import uuid4

from django.contrib.auth.models import Group, User
from django.db import models


class Kept(models.Manager["PlainKey"]):
    def get_queryset(self) -> models.QuerySet["PlainKey"]:
        return super().get_queryset().filter(is_deleted=False)


class PlainKey(models.Model):
    """A plain key in a table that leaves open what it says of it, and in which type."""

    token = models.CharField(max_length=300, null=True)
    label = models.CharField(max_length=300, default="")
    shown = models.CharField(max_length=300, default="")
    state = models.CharField(max_length=40, null=True)
    number = models.FloatField(null=True)
    made = models.DateTimeField(null=True)
    day = models.DateField(null=True)
    may = models.JSONField(null=True)
    whose = models.CharField(max_length=300, default="")
    # What deletes a user in that system leaves the key.
    user = models.ForeignKey(User, on_delete=models.DO_NOTHING, db_constraint=False, null=True)
    holder = models.ForeignKey(
        User, on_delete=models.DO_NOTHING, db_constraint=False, related_name="held", to_field="username", null=True
    )
    groups: "models.ManyToManyField[Group, Group]" = models.ManyToManyField(Group, db_constraint=False)
    is_deleted = models.BooleanField(default=False)

    objects: ClassVar[Kept] = Kept()
    everything: ClassVar[models.Manager["PlainKey"]] = models.Manager()


class PartnerKey(PlainKey):
    """A table of its own for what it adds."""

    partner = models.CharField(max_length=40)


class PersonalKey(models.Model):
    """A digest with its algorithm before it, a key in a UUID, and a moment of revocation."""

    id = models.UUIDField(primary_key=True, default=uuid4)
    secure_value = models.CharField(max_length=300, unique=True, null=True)
    mask_value = models.CharField(max_length=40, default="")
    label = models.CharField(max_length=300, default="")
    revoked_at = models.DateTimeField(null=True)


class OctetsKey(models.Model):
    digest = models.BinaryField(null=True)
    revoked = models.BooleanField(default=False)
    expires = models.BigIntegerField(null=True)


class TokenKey(models.Model):
    """The key itself is the primary key."""

    token = models.CharField(max_length=128, primary_key=True)
    label = models.CharField(max_length=100, default="")


class ForeignTable(models.Model):
    """As `inspectdb` writes it."""

    token = models.CharField(max_length=64)

    class Meta:
        managed = False
        db_table = "oldkeys_foreign"
