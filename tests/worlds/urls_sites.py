"""The addresses of a world with an admin site of its own, beside Django's where that world wants both."""

from importlib import import_module

from django.conf import settings
from django.contrib import admin
from django.contrib.admin import AdminSite
from django.urls import path

from keys.admin import APIKeyAdmin, AuditEventAdmin
from keys.models import APIKey, AuditEvent
from tests.worlds import urls

world = import_module(settings.SETTINGS_MODULE)
office = AdminSite(name="office")
admins = {"apikey": (APIKey, APIKeyAdmin), "auditevent": (AuditEvent, AuditEventAdmin)}
for name in sorted(world.ADMIN_HAS):
    office.register(*admins[name])

urlpatterns = [
    *urls.GUARDED,
    path("inner/office/", office.urls),
    *([path("admin/", admin.site.urls)] if world.DJANGOS_ADMIN_TOO else []),
]
