"""Departments of the example: rows since 0002, which were texts of the employees before."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from example_project.accounts.models import Department, Employee

TEXTS, ROWS = ("accounts", "0001_initial"), ("accounts", "0002_department")


def migrated_to(target: tuple[str, str]) -> Any:
    """Migrate and return the model of an employee as it is there."""
    executor = MigrationExecutor(connection)
    executor.migrate([target])
    return executor.loader.project_state([target]).apps.get_model("accounts", "Employee")


@pytest.fixture
def before(transactional_db: None) -> Iterator[Any]:
    """The model of an employee when a department was a text."""
    yield migrated_to(TEXTS)
    migrated_to(ROWS)


def test_they_are_made_of_the_texts_and_become_texts_again(before: Any) -> None:
    texts = {"E-1": "Research", "E-2": "Sales", "E-3": "Research", "E-4": ""}
    for number, text in texts.items():
        user = User.objects.create_user(number)
        before.objects.create(user_id=user.pk, employee_number=number, department=text, position="Agent")

    migrated_to(ROWS)

    assert dict(Employee.objects.values_list("employee_number", "department__name")) == texts
    assert Department.objects.count() == 3
    again = migrated_to(TEXTS)
    assert dict(again.objects.values_list("employee_number", "department")) == texts
