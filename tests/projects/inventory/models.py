from django.conf import settings
from django.db import models


class Device(models.Model):
    name = models.CharField(max_length=100)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, editable=False)
    is_retired = models.BooleanField(default=False, editable=False)

    def __str__(self):
        return self.name
