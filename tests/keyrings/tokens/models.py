"""Two tables of tokens that cannot be read back."""

from django.conf import settings
from django.db import models


class Token(models.Model):
    digest = models.CharField(max_length=64, unique=True)
    label = models.CharField(max_length=100)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True)
    may_write = models.BooleanField(default=False)
    revoked = models.BooleanField(default=False)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.label


class HashedToken(models.Model):
    prefix = models.CharField(max_length=8, unique=True)
    hash = models.CharField(max_length=128)
    name = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.name
