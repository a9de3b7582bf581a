"""The example's settings, its start without configuration included, and its admin."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from example_project.settings import BASE_DIR, cache, database


def start(**environment: str) -> subprocess.CompletedProcess[str]:
    # A variable that is empty counts as unset, and comes before the `.env` of whoever runs the tests.
    unset = {"SECRET_KEY": "", "ALLOWED_HOSTS": "", "DATABASE_URL": "", "CACHE_URL": "", "DEBUG": "true"}
    command = "from django.conf import settings as s; print(s.DEBUG, s.ALLOWED_HOSTS, s.SECRET_KEY)"
    return subprocess.run(
        [sys.executable, "-c", command],
        cwd=BASE_DIR,
        env=os.environ | unset | {"DJANGO_SETTINGS_MODULE": "example_project.settings"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_needs_no_configuration_for_development() -> None:
    result = start()
    assert result.stdout.startswith("True [] django-insecure-")


@pytest.mark.parametrize("debug", ["false", ""])
def test_has_no_secret_key_of_its_own_for_anything_else(debug: str) -> None:
    result = start(DEBUG=debug)
    assert result.returncode != 0
    assert "ImproperlyConfigured: SECRET_KEY is not set." in result.stderr


def test_takes_what_the_environment_says() -> None:
    result = start(DEBUG="false", SECRET_KEY="s" * 50, ALLOWED_HOSTS="a.example.com, b.example.com")
    assert result.stdout == f"False ['a.example.com', 'b.example.com'] {'s' * 50}\n"


def test_database_is_a_file_unless_told_otherwise() -> None:
    options = database("")
    assert Path(options["NAME"]) == BASE_DIR / "db.sqlite3"
    assert options["OPTIONS"] == database("sqlite:///elsewhere.sqlite3")["OPTIONS"]
    assert options["OPTIONS"]["transaction_mode"] == "IMMEDIATE"


def test_database_on_a_server() -> None:
    options = database("postgres://auth:secret@db.example.com:5433/keys?sslmode=require")
    assert (options["ENGINE"], options["HOST"], options["PORT"]) == (
        "django.db.backends.postgresql",
        "db.example.com",
        5433,
    )
    assert options["OPTIONS"] == {"sslmode": "require"}
    assert (options["CONN_MAX_AGE"], options["CONN_HEALTH_CHECKS"]) == (60, True)


def test_cache() -> None:
    assert cache("")["BACKEND"] == cache("locmem://")["BACKEND"] == "django.core.cache.backends.locmem.LocMemCache"
    assert cache("redis://localhost:6379/1") == {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": "redis://localhost:6379/1",
        "OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 2},
    }
    with pytest.raises(ImproperlyConfigured, match="memcached"):
        cache("memcached://localhost")


@pytest.mark.parametrize(
    "model", ["accounts/department", "accounts/employee", "auth/user", "jobs/job", "tracking/link", "tracking/record"]
)
def test_admin_lists_and_adds(admin_client: Client, model: str) -> None:
    assert admin_client.get(f"/admin/{model}/").status_code == 200
    assert admin_client.get(f"/admin/{model}/add/").status_code == 200


def test_admin_lists_clicks_and_adds_none(admin_client: Client) -> None:
    assert admin_client.get("/admin/tracking/click/").status_code == 200
    assert admin_client.get("/admin/tracking/click/add/").status_code == 403
