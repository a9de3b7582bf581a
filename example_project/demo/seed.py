"""Sample data, the same however often it is filled in, and the log-ins that belong to it."""

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils.crypto import salted_hmac

from example_project.accounts.models import Department, Employee
from example_project.tracking.models import Link

ADMIN = "demo-admin"
LEFT = "demo-dan"

# Names that no real user is likely to have: the accounts are set back to what stands here each time.
PEOPLE: dict[str, dict[str, Any]] = {
    "demo-anna": {"first_name": "Anna", "last_name": "Berg", "is_staff": False, "is_active": True},
    "demo-carla": {"first_name": "Carla", "last_name": "Mora", "is_staff": True, "is_active": True},
    LEFT: {"first_name": "Dan", "last_name": "Weiss", "is_staff": False, "is_active": False},
}
EMPLOYEES: dict[str, dict[str, str]] = {
    "demo-anna": {"employee_number": "DEMO-1", "department": "Research", "position": "Linguist"},
    "demo-carla": {"employee_number": "DEMO-2", "department": "IT", "position": "Operator"},
    LEFT: {"employee_number": "DEMO-3", "department": "Sales", "position": "Agent"},
}
LINKS = {
    "demo-spring-sale": "https://example.com/spring",
    "demo-newsletter": "https://example.com/newsletter",
}


@dataclass(frozen=True)
class Sample:
    """What `fill_in` has made sure of: users and employees by username, links by slug, passwords by username."""

    users: dict[str, User]
    employees: dict[str, Employee]
    links: dict[str, Link]
    passwords: dict[str, str]

    def as_json(self, admin_password: str | None) -> dict[str, Any]:
        """Ids and log-ins, for `demo --seed`. A password is null where there is none, or none that we know."""
        return {
            "users": [
                {
                    "id": user.pk,
                    "username": name,
                    "password": self.passwords.get(name),
                    "is_staff": user.is_staff,
                    "is_active": user.is_active,
                }
                for name, user in self.users.items()
            ],
            "employees": [
                {
                    "id": employee.pk,
                    "employee_number": employee.employee_number,
                    "user": employee.user_id,
                    "department": employee.department_id,
                }
                for employee in self.employees.values()
            ],
            "departments": [
                {"id": department.pk, "name": department.name}
                for department in dict.fromkeys(employee.department for employee in self.employees.values())
            ],
            "links": list(self.links),
            "admin": {"username": ADMIN, "password": admin_password} if settings.DEBUG else None,
        }


@transaction.atomic
def fill_in() -> Sample:
    """Make the sample data, or set it back to what it was."""
    users = {name: _person(name, fields) for name, fields in PEOPLE.items()}
    passwords = {name: _password(name) for name, fields in PEOPLE.items() if fields["is_active"]}
    for name, password in passwords.items():
        if not users[name].password or not users[name].check_password(password):
            users[name].set_password(password)
            users[name].save(update_fields=["password"])
    employees = {
        name: Employee.objects.update_or_create(
            user=users[name], defaults={**fields, "department": _department(fields["department"])}
        )[0]
        for name, fields in EMPLOYEES.items()
    }
    links = {slug: Link.objects.get_or_create(slug=slug, defaults={"url": url})[0] for slug, url in LINKS.items()}
    return Sample(users, employees, links, passwords)


def admin_password() -> str | None:
    """Make the demo's superuser if there is none, and return its password; None if somebody has changed that.

    For DEBUG alone. An account that is there already is left as it is, its password above all.
    """
    if not settings.DEBUG:
        return None
    user, is_new = User.objects.get_or_create(username=ADMIN, defaults={"is_staff": True, "is_superuser": True})
    password = _password(ADMIN)
    if is_new:
        user.set_password(password)
        user.save(update_fields=["password"])
    return password if user.check_password(password) else None


def _person(username: str, fields: dict[str, Any]) -> User:
    defaults = {**fields, "email": f"{username}@example.com", "is_superuser": False}
    user, _ = User.objects.update_or_create(username=username, defaults=defaults)
    if username == LEFT and (not user.password or user.has_usable_password()):
        user.set_unusable_password()
        user.save(update_fields=["password"])
    return user


def _department(name: str) -> Department:
    return Department.objects.get_or_create(name=name)[0]


def _password(username: str) -> str:
    """The password of a sample user: the same in each run, and none that can be known from outside.

    It comes from SECRET_KEY, which development shares with everybody, and from 40 random characters that only this
    database holds: those that Django puts in the place of a password for a user who has none.
    """
    salt = User.objects.get(username=LEFT).password
    return salted_hmac(salt, username, algorithm="sha256").hexdigest()[:20]
