"""Our pages in the theme's classes."""

from django.contrib import admin
from unfold.admin import ModelAdmin

from keys.admin import APIKeyAdmin, AuditEventAdmin
from keys.models import APIKey, AuditEvent

admin.site.unregister([APIKey, AuditEvent])


@admin.register(APIKey)
class ThemedAPIKeyAdmin(APIKeyAdmin, ModelAdmin):  # type: ignore[misc]
    """The keys' pages."""


@admin.register(AuditEvent)
class ThemedAuditEventAdmin(AuditEventAdmin, ModelAdmin):  # type: ignore[misc]
    """The log's pages."""
