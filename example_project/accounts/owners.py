"""Who looks after whose keys: what `KEYS["SELF_SERVICE"]["OWNERS_OF"]` names."""

from django.contrib.auth.models import User

from example_project.accounts.models import Department


def owners_of(user: User) -> list[User | Department]:
    """Return the user, and the department of an employee: everybody there looks after the department's keys."""
    return [user, *Department.objects.filter(employees__user=user)]
