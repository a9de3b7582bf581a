"""Models whose instances own keys, with every kind of primary key."""

# ruff: noqa: DJ008  (they have no names)

from typing import ClassVar
from uuid import uuid4

from django.db import models


class Company(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid4)
    is_active = models.BooleanField(default=True)


class Shop(models.Model):
    code = models.CharField(max_length=250, primary_key=True)


class OpenShop(Shop):
    class Meta:
        proxy = True


class Till(models.Model):
    """Its primary key is a relation to one that has a text."""

    shop = models.OneToOneField(Shop, on_delete=models.CASCADE, primary_key=True)


class Team(models.Model):
    name = models.CharField(max_length=20, default="")


class Projects(models.Manager["Project"]):
    def get_queryset(self) -> models.QuerySet["Project"]:
        return super().get_queryset().filter(is_deleted=False)


class Project(models.Model):
    """Its manager hides what is only marked as deleted. Its order would join another table."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, null=True)
    is_deleted = models.BooleanField(default=False)

    objects: ClassVar[Projects] = Projects()

    class Meta:
        ordering = ("team__name",)


class Building(models.Model):
    pass


class Hotel(Building):
    """A table of its own for what it adds."""

    def is_active(self) -> bool:
        return self.pk % 2 == 0


class Seat(models.Model):
    pk = models.CompositePrimaryKey("row", "number")
    row = models.IntegerField()
    number = models.IntegerField()

    class Meta:
        managed = False


class Blob(models.Model):
    digest = models.BinaryField(primary_key=True)

    class Meta:
        managed = False


class Nobody(models.Model):
    class Meta:
        abstract = True
