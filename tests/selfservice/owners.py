"""Functions for `OWNERS_OF`, right and wrong."""

from collections.abc import Iterator
from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.db.models import QuerySet


def as_queryset(user: User) -> QuerySet[Group]:
    return user.groups.all()


def twice(user: User) -> list[Group]:
    return [*user.groups.all(), *user.groups.all()]


def as_generator(user: User) -> Iterator[Group]:
    yield from user.groups.all()


def none(user: User) -> None:
    return None


def with_groups(user: User) -> list[Any]:
    return [*user.groups.all(), user]


def unlisted(user: User) -> list[Any]:
    return [user, Permission.objects.first()]


def unsaved(user: User) -> list[Any]:
    return [User(pk=7)]


def a_user(user: User) -> User:
    return user


def a_text(user: User) -> str:
    return f"auth.user:{user.pk}"


async def asynchronous(user: User) -> list[User]:
    return [user]
