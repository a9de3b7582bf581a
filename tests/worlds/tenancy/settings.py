"""What the worlds with tenants have in common; each says which apps its tenants have."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import DATABASES as DATABASES
from tests.worlds.settings import INSTALLED_APPS as INSTALLED_APPS
from tests.worlds.settings import MIDDLEWARE as MIDDLEWARE

VENDORS = {"postgresql"}
PACKAGES = ("django_tenants",)
HOST = "acme.example"

DATABASES["default"]["ENGINE"] = "django_tenants.postgresql_backend"
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
TENANT_MODEL, TENANT_DOMAIN_MODEL = "tenancy.Tenant", "tenancy.Domain"
MIDDLEWARE = ["django_tenants.middleware.main.TenantMainMiddleware", *MIDDLEWARE]
ROOT_URLCONF = PUBLIC_SCHEMA_URLCONF = "tests.worlds.tenancy.urls"
APPS_OF_ALL = [app for app in INSTALLED_APPS if app != "keys"]
# Cached counters of all tenants lie side by side, as they do if a project does not set a KEY_FUNCTION.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}


def prepare() -> None:
    from tests.worlds.tenancy.steps import add_tenant

    add_tenant("public")
    add_tenant("acme")
    add_tenant("globex")


@contextmanager
def around() -> Iterator[None]:
    from django_tenants.utils import schema_context

    with schema_context("acme"):
        yield
