from django.contrib import admin

from example_project.jobs.models import Job


@admin.register(Job)
class JobAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["name", "state", "created_at"]
    list_filter = ["state"]
    readonly_fields = ["created_at"]
