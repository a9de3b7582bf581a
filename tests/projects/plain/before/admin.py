from django.contrib import admin

from plain.models import Client

admin.site.register(Client)
