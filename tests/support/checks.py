"""Runs the system checks of the app as `manage.py check` does."""

from collections.abc import Callable
from typing import Any

from django.core.checks import run_checks
from django.urls import path
from pytest_django import Settings


def found(check_id: str, *, deploy: bool = False, databases: list[str] | None = None) -> list[str]:
    """Return, as they are printed, the messages of one id."""
    # None means no database before Django 6, and every one since.
    messages = run_checks(tags=["keys"], include_deployment_checks=deploy, databases=databases or [])
    return [str(message) for message in messages if message.id == check_id]


def serve(settings: Settings, *views: Callable[..., Any]) -> None:
    """Let the URLconf hold nothing but the views, at /0/, /1/ and so on."""
    settings.ROOT_URLCONF = tuple(path(f"{number}/", view) for number, view in enumerate(views))
