"""System checks of the pages on which people look after their keys."""

from typing import Any

import pytest
from pytest_django import Settings

from tests.support.commands import found

PLAIN: dict[str, Any] = {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": False}


@pytest.fixture(autouse=True)
def _pages(settings: Settings) -> None:
    settings.ROOT_URLCONF = "tests.selfservice.page_urls"
    settings.LOGIN_URL = "admin:login"


def test_pages_that_people_get_to_are_fine() -> None:
    assert found("keys.E036") + found("keys.W034") == []


@pytest.mark.parametrize("engines", [[], [PLAIN]])
def test_pages_without_templates_are_told(settings: Settings, engines: list[Any]) -> None:
    settings.TEMPLATES = engines
    (told,) = found("keys.E036")
    assert "keys/selfservice/list.html" in told


@pytest.mark.parametrize("login", ["/accounts/login/", "log-in"])
def test_pages_without_a_way_to_log_in_are_told(settings: Settings, login: str) -> None:
    settings.LOGIN_URL = login
    (told,) = found("keys.W034")
    assert login in told


def test_projects_without_pages_are_told_nothing(settings: Settings) -> None:
    settings.TEMPLATES, settings.LOGIN_URL = [], "log-in"
    settings.ROOT_URLCONF = "tests.selfservice.api_urls"
    assert found("keys.E036") + found("keys.W034") == []


@pytest.mark.parametrize("login", ["/site/log-in/", "https://login.example/", "/admin/login/"])
def test_what_may_lead_somewhere_is_left_alone(settings: Settings, login: str) -> None:
    settings.LOGIN_URL = login
    assert found("keys.W034") == []


def test_pages_without_users_are_told(settings: Settings) -> None:
    settings.MIDDLEWARE = [one for one in settings.MIDDLEWARE if "Authentication" not in one]
    (told,) = found("keys.W034")
    assert "AuthenticationMiddleware" in told
