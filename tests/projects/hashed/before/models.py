import hashlib

from django.db import models


def digest_of(key):
    return "sha256$" + hashlib.sha256(key.encode()).hexdigest()


class PersonalKey(models.Model):
    label = models.CharField(max_length=40)
    secure_value = models.CharField(max_length=80, unique=True)
    mask = models.CharField(max_length=12)
    scopes = models.JSONField(default=list)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self):
        return self.label
