from django.contrib import admin

from example_project.accounts.models import Department, Employee


@admin.register(Department)
class DepartmentAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["name"]
    search_fields = ["name"]


@admin.register(Employee)
class EmployeeAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["employee_number", "user", "department", "position"]
    list_filter = ["department"]
    list_select_related = ["user", "department"]
    search_fields = ["employee_number", "user__username", "user__first_name", "user__last_name"]
    autocomplete_fields = ["user", "department"]
