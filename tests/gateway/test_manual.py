"""The addresses in the manual are what it says of them."""

import pytest
from pytest_django import Settings

from keys.models import APIKey
from tests.docs.pages import block, run
from tests.gateway.asking import ask
from tests.support.commands import found
from tests.support.log import rows

pytestmark = pytest.mark.django_db


def test_the_addresses(settings: Settings, key: APIKey, behind_proxy: None) -> None:
    settings.ROOT_URLCONF = tuple(run(block("docs/gateway.md", "## What a proxy asks", "python"))["urlpatterns"])
    asked = {"X_Original_Method": "GET", "X_Original_URI": "/orders/"}
    for address in ("/gateway/?scope=orders:read", "/envoy/", "/envoy/orders/?page=2"):
        assert ask(address, X_API_Key=key.key, **asked).status == 200
    assert ask("/gateway/?scope=orders:read&page=2", X_API_Key=key.key, **asked).status == 403
    assert len(rows()) == 4
    for check in ("keys.W015", "keys.E042", "keys.E043", "keys.W043", "keys.W044"):
        assert not found(check, deploy=True)
