"""A department becomes a row of its own, which may own keys; until now it was a text of each employee."""

from typing import Any

import django.db.models.deletion
from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def make_departments(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    department_model, employees = _model(apps, "Department"), _model(apps, "Employee").objects
    for text in employees.order_by().values_list("department_text", flat=True).distinct():
        department, _ = department_model.objects.get_or_create(name=text)
        employees.filter(department_text=text).update(department=department)


def write_texts(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    for department in _model(apps, "Department").objects.all():
        department.employees.update(department_text=department.name)


def _model(apps: Apps, name: str) -> Any:
    return apps.get_model("accounts", name)


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="Department",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=100, unique=True)),
            ],
            options={"ordering": ["name"]},
        ),
        migrations.RenameField("employee", "department", "department_text"),
        # Going back, the rows have no text yet when the column is added.
        migrations.AlterField("employee", "department_text", models.CharField(max_length=100, default="")),
        migrations.AddField(
            "employee",
            "department",
            models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="employees",
                to="accounts.department",
            ),
        ),
        migrations.RunPython(make_departments, write_texts),
        migrations.RemoveField("employee", "department_text"),
        migrations.AlterField(
            "employee",
            "department",
            models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="employees", to="accounts.department"
            ),
        ),
    ]
