from django.contrib import admin

from keys.admin import OwnedKeysMixin
from uptime.models import Project


@admin.register(Project)
class ProjectAdmin(OwnedKeysMixin, admin.ModelAdmin):
    search_fields = ["name"]
