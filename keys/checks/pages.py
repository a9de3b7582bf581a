"""Checks of the pages on which people look after their keys, where a project has included them."""

from collections.abc import Iterator
from typing import Any

from django.conf import global_settings, settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.shortcuts import resolve_url
from django.template import TemplateDoesNotExist, TemplateSyntaxError
from django.template.backends.django import DjangoTemplates
from django.template.loader import get_template
from django.urls import NoReverseMatch, Resolver404, resolve

from ..endpoints import endpoints
from .transactions import middlewares

VIEWS = "keys.selfservice.views"
USERS = "django.contrib.auth.middleware.AuthenticationMiddleware"
NEEDED = ("list.html", "base.html", "standalone.html")


@checks.register("keys")
def check_pages_have_templates(**kwargs: object) -> list[checks.CheckMessage]:
    if not _are_included() or not (objection := _objection_to_templates()):
        return []
    return [
        checks.Error(
            f"The pages on which people look after their keys cannot be rendered: {objection}",
            hint='TEMPLATES needs DjangoTemplates with "APP_DIRS": True. An API needs none: include '
            "keys.selfservice.urls instead of keys.selfservice.pages.",
            id="keys.E036",
        )
    ]


def _are_included() -> bool:
    return any(getattr(endpoint.source, "__module__", "") == VIEWS for endpoint in endpoints())


def _objection_to_templates() -> str:
    try:
        for name in NEEDED:
            template: Any = get_template(f"keys/selfservice/{name}")
            if not isinstance(template.backend, DjangoTemplates):
                return f"{template.backend.name} finds their templates first, which are Django's."
    except (ImproperlyConfigured, TemplateSyntaxError) as error:
        return str(error)
    except TemplateDoesNotExist as error:
        return f"no template engine finds {error}."
    return ""


@checks.register("keys")
def check_people_can_log_in_to_the_pages(**kwargs: object) -> list[checks.CheckMessage]:
    if not _are_included():
        return []
    return [
        checks.Warning(
            f"People who are not logged in do not get to the pages of their keys: {objection}",
            hint=hint,
            id="keys.W034",
        )
        for objection, hint in _objection_to_logging_in()
    ]


def _objection_to_logging_in() -> Iterator[tuple[str, str]]:
    """Yield what keeps people from logging in, if anything does, and a hint."""
    if not any(_reads_users(middleware) for _, middleware in middlewares()):
        yield "there is no AuthenticationMiddleware.", f'Add "{USERS}" to MIDDLEWARE: the pages ask request.user.'
        return
    login = str(settings.LOGIN_URL)
    try:
        url = resolve_url(login)
        # Whatever else somebody has written may be the address of another server, or begin with SCRIPT_NAME.
        if login == global_settings.LOGIN_URL:
            resolve(url)
    except (NoReverseMatch, Resolver404):
        hint = 'Set LOGIN_URL to the name of the view at which people log in, such as LOGIN_URL = "admin:login".'
        yield f"LOGIN_URL is {login!r}, which leads to no view.", hint


def _reads_users(middleware: Any) -> bool:
    # By name, as without the app its module cannot be imported.
    parts = middleware.__mro__ if isinstance(middleware, type) else ()
    return any(f"{part.__module__}.{part.__name__}" == USERS for part in parts)
