"""Functions for `OWNER_IS_ALLOWED`, right and wrong."""

from typing import Any

from django.db import OperationalError

from tests.ownership.models import Team

not_a_function = 7


def yes(owner: Any) -> bool:
    return True


def no(owner: Any) -> bool:
    return False


def says_nothing(owner: Any) -> None:
    return None


def named_anna(owner: Any) -> bool:
    return bool(owner.username == "anna")


def fails(owner: Any) -> bool:
    raise KeyError(owner.pk)


def has_no_database(owner: Any) -> bool:
    raise OperationalError("the database is away")


def breaks_a_transaction(owner: Any) -> bool:
    """Ask for what there is not: PostgreSQL then refuses the rest of the transaction."""
    return Team.objects.extra(where=["no_such_column"]).exists()


async def asynchronous(owner: Any) -> bool:
    return True


class Rule:
    async def __call__(self, owner: Any) -> bool:
        return True


asynchronous_rule = Rule()
