"""What a gateway and an introspection leave in the log, as the admin shows it: which host, which path, who asked."""

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client
from django.urls import include, path
from django.utils import timezone
from pytest_django.fixtures import Settings

from keys.admin import log_filters, log_list
from keys.gateway import ForwardAuthView
from keys.keyrings import EnvironmentKeyring
from keys.models import APIKey, AuditEvent
from keys.verification import Guard
from tests.support.admin import LOG, USAGE, page_of, text_of
from tests.support.keys import make_key
from tests.support.log import body_of, record

pytestmark = pytest.mark.django_db

ORDERS, BILLING = "gateway:orders.example", "gateway:billing.example"
STRANGER = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _proxy(settings: Settings) -> None:
    settings.KEYS = {**settings.KEYS, "TRUSTED_PROXIES": 1}


def ask(key: APIKey | str, host: str, path: str, method: str = "GET", door: str = "/gateway/") -> Any:
    """Ask as a proxy does, about a request to that host."""
    told = {"X-Forwarded-Host": host, "X-Forwarded-Method": method, "X-Forwarded-Uri": path}
    secret = key if isinstance(key, str) else key.key
    return Client().get(door, headers={"X-API-Key": secret, "X-Forwarded-For": "192.0.2.7", **told})


def introspect(caller: APIKey, token: str, **more: str) -> None:
    form = urlencode({"token": token, **more})
    headers = {"X-API-Key": caller.key}
    Client().post("/api/v1/keys/introspect/", form, "application/x-www-form-urlencoded", headers=headers)


def shown(client: Client, **query: str) -> list[tuple[str, str]]:
    """Return endpoint and path of the requests in the list."""
    found = client.get(LOG, query).context["cl"].result_list
    return [(event.endpoint, event.path) for event in found if event.is_request]


def test_the_list_names_the_host_and_the_path_of_the_request(admin_client: Client) -> None:
    key = make_key("Shop")
    ask(key, "orders.example", "/orders/7/?page=2", "POST")
    for page in (LOG, page_of(key)):
        assert "POST orders.example/orders/7/ <span" in text_of(admin_client.get(page))


def test_the_list_names_the_service_that_asked(admin_client: Client) -> None:
    key, service = make_key("Shop"), make_key("Orders", scopes=["keys:introspect"])
    introspect(service, key.key, address="198.51.100.9")
    page = text_of(admin_client.get(LOG))
    assert "Orders, which asked about it <span" in page
    assert '198.51.100.9<div class="keys-agent">key:Orders</div>' in page
    introspect(service, key.key)
    assert 'field-who">key:Orders</td>' in text_of(admin_client.get(LOG))
    event = AuditEvent.objects.filter(endpoint="introspection:Orders").latest("pk")
    assert '<div class="readonly">key:Orders</div>' in text_of(admin_client.get(f"{LOG}{event.pk}/change/"))


def test_all_that_happens_at_a_host_is_found(admin_client: Client) -> None:
    key = make_key("Shop")
    for host in ("orders.example", "billing.example"):
        for called in ("/a/1/", "/b/"):
            ask(key, host, called)
    ask(STRANGER, "orders.example", "/b/")
    at_orders = [(ORDERS, "/b/"), (ORDERS, "/b/"), (ORDERS, "/a/1/")]
    for query, expected in [
        ({"endpoint": ORDERS}, at_orders),
        ({"endpoint": ORDERS, "key": str(key.pk)}, at_orders[1:]),
        ({"q": "orders.example"}, at_orders),
        ({"q": "Orders.Ex"}, at_orders),
        ({"q": "gateway:orders.example"}, at_orders),
        ({"q": "orders.example/a/"}, at_orders[2:]),
        ({"q": "billing.example/b/"}, [(BILLING, "/b/")]),
        ({"q": "/a/"}, [(BILLING, "/a/1/"), (ORDERS, "/a/1/")]),
        ({"endpoint": "gateway:orders"}, []),
    ]:
        assert shown(admin_client, **query) == expected, query
    exported = body_of(admin_client, f"{LOG}export/jsonl/", endpoint=BILLING).splitlines()
    assert [json.loads(line)["endpoint"] for line in exported] == [BILLING, BILLING]


def test_what_a_name_begins_with_is_found_with_a_slash_in_it(admin_client: Client) -> None:
    for name in ("CI/CD of the shop", "CI/CD of the till"):
        ask(make_key(name), "orders.example", "/a/")
    ask(make_key("CI"), "ci", "/CD/")
    assert shown(admin_client, q="CI/CD") == [("gateway:ci", "/CD/"), (ORDERS, "/a/"), (ORDERS, "/a/")]


def test_a_host_is_looked_for_a_part_at_a_time(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_list, "LOOKED_AT", 3)
    key = make_key("Shop")
    ask(key, "orders.example", "/")
    for _ in range(5):
        ask(key, "billing.example", "/")
    for query in ({"endpoint": ORDERS}, {"q": "orders.example"}):
        page = admin_client.get(LOG, query)
        assert not page.context["cl"].result_list
        assert "Look further back" in text_of(page)


def offered(client: Client, **query: str) -> list[str]:
    (found,) = [
        one for one in client.get(LOG, query).context["cl"].filter_specs if isinstance(one, log_filters.EndpointFilter)
    ]
    return [value for value, _ in found.lookup_choices]


def test_the_filter_offers_what_keys_were_used_at_lately(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_key("Shop")
    ask(key, "orders.example", "/")
    ask(STRANGER, "made-up.example", "/")
    ask(key, "billing.example", "/")
    assert offered(admin_client) == [BILLING, ORDERS]
    assert offered(admin_client, endpoint="gateway:gone.example") == [BILLING, ORDERS, "gateway:gone.example"]
    monkeypatch.setattr(log_filters, "LATEST_ROWS", 2)
    assert offered(admin_client) == [BILLING]


def test_a_host_that_is_longer_than_its_column_is_found(admin_client: Client) -> None:
    host = f"{'a-long-label.' * 10}example"
    ask(make_key("Shop"), host, "/")
    (found,) = shown(admin_client, q=host)
    assert found[0] == f"gateway:{host}"[:128]
    assert shown(admin_client, endpoint=f"gateway:{host}") == [found]


def test_the_usage_names_each_host_and_leads_to_its_events(admin_client: Client) -> None:
    key, service = make_key("Shop"), make_key("Orders", scopes=["keys:introspect"])
    for called in ("/a/", "/b/"):
        ask(key, "orders.example", called)
    ask(key, "billing.example", "/")
    introspect(service, key.key)
    page = admin_client.get(USAGE)
    (holder,) = [one for one in page.context["page"].object_list if one.name == "Shop"]
    assert {row.api: (row.uses, row.path) for row in holder.rows.values()} == {
        ORDERS: (2, ""), BILLING: (1, ""), "introspection:Orders": (1, ""),
    }  # fmt: skip
    assert f'<a href="{LOG}?endpoint=gateway%3Aorders.example">{ORDERS}</a></td>' in text_of(page)


VARIABLE = Guard(keyrings=(EnvironmentKeyring("SHARED_BEHIND_THE_GATEWAY"),))
SECRET = "shared-secret-of-the-services-behind-0123456789"
urlpatterns = [
    path("door/", ForwardAuthView.as_view(guard=VARIABLE), name="door"),
    path("", include("tests.urls")),
]


@pytest.mark.urls("tests.admin.test_gateway")
def test_a_variable_that_is_used_behind_a_gateway_is_not_unused_there(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARED_BEHIND_THE_GATEWAY", SECRET)

    def rows() -> dict[str, int]:
        (variable,) = [
            one for one in admin_client.get(USAGE).context["variables"] if one.name == "env:SHARED_BEHIND_THE_GATEWAY"
        ]
        return {row.api: row.uses for row in variable.rows.values()}

    assert rows() == {"door": 0}
    assert ask(SECRET, "orders.example", "/", door="/door/").status_code == 200
    assert rows() == {ORDERS: 1}


def test_what_strangers_leave_reads_well(admin_client: Client) -> None:
    for _ in range(9):
        ask(STRANGER, "orders.example", "/wp-login.php")
    record(at=timezone.now(), event="refused", reason="unknown", status=401, count=27, detail="from many networks")
    page = text_of(admin_client.get(LOG))
    assert "several paths <span" in page
    assert "orders.example/wp-login.php <span" in page
    report = admin_client.get(USAGE)
    (strangers,) = report.context["strangers"]
    assert {row.api: row.refusals for row in strangers.rows.values()} == {ORDERS: 9, "several APIs": 27}
