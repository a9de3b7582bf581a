"""What each package that keeps changes has to do: store a user's change with the user, and a service's without."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.urls import path

from keys.models import APIKey
from tests.docs.pages import block, run
from tests.worlds.requests import rows
from tests.worlds.tracked.models import Order
from tests.worlds.tracked.views import OrderSerializer, as_owners

Step = tuple[str, Callable[[], None]]


def service(**fields: Any) -> Client:
    key = APIKey.objects.create(name="Billing", scopes=["orders:write"], **fields)
    return Client(raise_request_exception=False, headers={"X-API-Key": str(key.key)})


def person() -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.get_or_create(username="ada")[0])
    return client


def post(client: Client, address: str, name: str = "Paper") -> None:
    answer = client.post(address, {"name": name})
    assert answer.status_code == 201, (address, answer.status_code, answer.content)


def storing(user_of_last: Callable[[], Any], *addresses: str) -> Iterator[Step]:
    """Yield steps that post to each address; `user_of_last` reads who is stored with the latest change."""

    def by_service() -> None:
        for address in addresses:
            before = rows()
            post(service(), address)
            assert user_of_last() is None, address
            assert rows()[len(before) :] == [("used", "", 201)], address

    def by_user() -> None:
        for address in addresses:
            if "plain" not in address:
                post(person(), address)
                assert str(user_of_last()) == "ada", address

    def by_owner() -> None:
        owning = {**settings.KEYS, "OWNERS": ["auth.User"]}
        with override_settings(KEYS=owning, ROOT_URLCONF=as_owners()):
            for address in ("/create/", "/create-owned/", "/create-plain/"):
                post(service(owner=User.objects.get_or_create(username="bob")[0]), address)
                assert str(user_of_last()) == "bob", address
                assert rows()[-1] == ("used", "", 201), address

    yield "stored for a service", by_service
    yield "stored for a user", by_user
    yield "stored for a key that acts as its owner", by_owner


def owner_by_recipe() -> None:
    """Serve the manual's view: a user owns what they create, a service does not."""
    view = run(block("docs/people.md", "## Users, or services with a scope", "python"))["OrderList"]
    with override_settings(ROOT_URLCONF=(path("", view.as_view(serializer_class=OrderSerializer)),)):
        post(service(), "/")
        assert Order.objects.latest("pk").owner is None
        post(person(), "/")
        assert str(Order.objects.latest("pk").owner) == "ada"


def owner_by_mistake() -> None:
    """What Django raises says what the matter is."""
    client = service()
    client.raise_request_exception = True
    with pytest.raises(ValueError, match="key:Billing: a service, not a database user"):
        client.post("/create-owned/", {"name": "Paper"})
    post(person(), "/create-owned/")
