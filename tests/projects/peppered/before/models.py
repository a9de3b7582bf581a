import hmac

from django.conf import settings
from django.db import models


def digest_of(token):
    return hmac.new(settings.TOKEN_PEPPER.encode(), token.encode(), "sha256").hexdigest()


class ServiceToken(models.Model):
    name = models.CharField(max_length=100)
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self):
        return self.name
