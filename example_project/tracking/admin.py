from django.contrib import admin
from django.db import models

from example_project.tracking.models import Click, Link, Record


@admin.register(Link)
class LinkAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["slug", "url", "created_at"]
    search_fields = ["slug"]
    formfield_overrides = {models.URLField: {"assume_scheme": "https"}}


@admin.register(Click)
class ClickAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["click_id", "link", "clicked_at"]
    list_select_related = ["link"]
    readonly_fields = ["click_id", "link", "clicked_at", "batch"]

    def has_add_permission(self, request: object) -> bool:
        return False


@admin.register(Record)
class RecordAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["name", "created_at"]
    search_fields = ["name"]
