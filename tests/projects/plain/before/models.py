from secrets import token_hex

from django.db import models


def new_token():
    return token_hex(32)


class Client(models.Model):
    name = models.CharField(max_length=100)
    token = models.CharField(max_length=64, unique=True, default=new_token)
    is_enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self):
        return self.name
