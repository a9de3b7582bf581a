"""Runs the system checks of the app as `manage.py check` does."""

from collections.abc import Callable
from typing import Any

from django.core.checks import run_checks
from django.urls import path
from pytest_django import Settings


def found(check_id: str, *, deploy: bool = False, databases: list[str] | None = None) -> list[str]:
    """Return the messages with this id, as they are printed."""
    # Before Django 6, None means no database; since then, all of them.
    messages = run_checks(tags=["keys"], include_deployment_checks=deploy, databases=databases or [])
    return [str(message) for message in messages if message.id == check_id]


def serve(settings: Settings, *views: Callable[..., Any]) -> None:
    """Set a URLconf with only these views, at /0/, /1/ and so on."""
    settings.ROOT_URLCONF = tuple(path(f"{number}/", view) for number, view in enumerate(views))
