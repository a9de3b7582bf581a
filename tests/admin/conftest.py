"""Fixtures of the admin's tests: another site beside Django's."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin import AdminSite
from django.db.models import Model
from django.urls import path

Mount = Callable[[dict[type[Model], type[Any]]], None]


@pytest.fixture
def mount(settings: Any) -> Mount:
    """Return a function that puts a site with these models beside Django's."""

    def mounted(models: dict[type[Model], type[Any]]) -> None:
        office = AdminSite(name="office")
        for model, model_admin in models.items():
            office.register(model, model_admin)
        settings.ROOT_URLCONF = (path("admin/", admin.site.urls), path("office/", office.urls))

    return mounted
