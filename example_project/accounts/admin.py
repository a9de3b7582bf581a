from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User

from example_project.accounts.models import Department, Employee
from keys.admin import OwnedKeysMixin

admin.site.unregister(User)


@admin.register(User)
class OwningUserAdmin(OwnedKeysMixin, UserAdmin):  # type: ignore[type-arg]
    """Django's own, with the way to the user's keys."""


@admin.register(Department)
class DepartmentAdmin(OwnedKeysMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["name"]
    search_fields = ["name"]


@admin.register(Employee)
class EmployeeAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["employee_number", "user", "department", "position"]
    list_filter = ["department"]
    list_select_related = ["user", "department"]
    search_fields = ["employee_number", "user__username", "user__first_name", "user__last_name"]
    autocomplete_fields = ["user", "department"]
