"""Which request a proxy asks about, what of that is believed, and what of it is in the log."""

import logging
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from django.core import mail
from django.utils.log import AdminEmailHandler
from pytest_django import Settings

from keys.models import APIKey, AuditEvent
from keys.models.audit_event import WIDTHS
from tests.gateway.asking import Answer, ask
from tests.support.callers import UNKNOWN
from tests.support.log import errors, rows
from tests.support.tables import renamed

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.gateway.asking")]

Ask = Callable[..., Answer]
CONTRADICTION = "The headers that name the request contradict each other."


def told(key: APIKey, uri: str = "/", method: str = "GET", address: str = "/door/", **headers: str) -> tuple[Any, ...]:
    """Ask about a request, and return method, path and endpoint of the row."""
    asked = {"X_Forwarded_Method": method, "X_Forwarded_Uri": uri}
    answer = ask(address, X_API_Key=key.key, **asked | headers)
    row = AuditEvent.objects.latest("id")
    assert (answer.status, row.status, row.key_name) == (200, 200, "Billing"), answer
    return row.method, row.path, row.endpoint


class TestWithoutProxies:
    def test_nothing_is_believed(self, recorded_way: Ask, key: APIKey) -> None:
        answer = recorded_way(
            "/door/?scope=orders:read", "DELETE", X_API_Key=key.key, X_Forwarded_Uri="/lie", X_Original_URI="/other",
            X_Forwarded_Method="PATCH", X_Forwarded_Host="lie.example", X_Forwarded_For="203.0.113.7",
        )  # fmt: skip
        assert answer.status == 200
        row = AuditEvent.objects.get(event="used")
        assert (row.method, row.path, row.endpoint, row.address) == (
            "DELETE", "/door/", "gateway:testserver", "192.0.2.1"
        )  # fmt: skip


@pytest.mark.usefixtures("behind_proxy")
class TestBehindOne:
    @pytest.mark.parametrize("custom", ["Forwarded", "Original"])
    def test_either_custom(self, recorded_way: Ask, key: APIKey, custom: str) -> None:
        headers = {f"X_{custom}_Method": "PROPFIND", f"X_{custom}_URI": "/orders/7?secret=1"}
        assert recorded_way("/door/", X_API_Key=key.key, X_Forwarded_Host="orders.example", **headers).status == 200
        row = AuditEvent.objects.get(event="used")
        assert (row.method, row.path, row.endpoint) == ("PROPFIND", "/orders/7", "gateway:orders.example")

    @pytest.mark.parametrize(
        ("uri", "path"),
        [
            ("/orders/7", "/orders/7"),
            ("http://lie.example/orders?x=1", "/orders"),
            ("https://user:secret@lie.example:8443", "/"),
            ("//host/path", "//host/path"),
            ("/to/http://lie.example/hidden", "/to/http://lie.example/hidden"),
            ("/admin/x://everything/a", "/admin/x://everything/a"),
            ("/a%2Fb/%C3%BC", "/a/b/ü"),
            ("/a%252Fb", "/a%2Fb"),
            ("/ü".encode().decode("latin-1"), "/ü"),
            ("/a\xffb", "/a\\xffb"),
            ("/a%fe%FFb", "/a\\xfe\\xffb"),
            ("/a%zz%", "/a%zz%"),
            ("/a%0d%0aX: 1%00", "/a\\r\\nX: 1\\x00"),
            ("/%E2%80%AE", "/\\u202e"),
            ("/a%3Fb=1", "/a?b=1"),
            ("/a;b=1&c=2", "/a;b=1&c=2"),
            ("/a?", "/a"),
            ("?a=1", "/"),
            ("/a??b#c", "/a"),
            ("/a#b?secret", "/a"),
            ("/a?next=http://b/#c", "/a"),
            ("*", "*"),
            ("host.example:443", "host.example:443"),
            ("/a/../b/./c//d", "/a/../b/./c//d"),
            (" /a ", "/a"),
        ],
    )
    def test_paths(self, key: APIKey, uri: str, path: str) -> None:
        assert told(key, uri)[1] == path

    def test_what_is_long_is_cut(self, key: APIKey) -> None:
        method, path, endpoint = told(
            key, "/" + "%C3%BC" * 10_000 + "?secret=1", "M" * 1000, X_Forwarded_Host="h" * 10_000
        )
        assert path == ("/" + "ü" * 10_000)[: WIDTHS["path"]]
        assert (method, endpoint) == ("M" * WIDTHS["method"], ("gateway:" + "h" * 10_000)[: WIDTHS["endpoint"]])

    def test_a_key_in_what_is_told_is_masked(self, key: APIKey) -> None:
        token = str(key.key)
        encoded = "".join(f"%{ord(letter):02x}" for letter in token)
        for written in (
            token,
            encoded,
            quote(encoded),
            quote(quote(encoded)),
            token[:20] + encoded[60:],
            f"{token}{token}",
        ):
            _, path, endpoint = told(key, f"/a/{written}/b", X_Forwarded_Host=f"{token}.example")
            assert path.replace("********", "*", 1).replace("********", "") == "/a/*/b"
            assert endpoint == "gateway:********.example"
        assert ask("/door/", X_API_Key=key.key, X_Forwarded_Method=token, X_Forwarded_Uri="/").status == 200
        assert AuditEvent.objects.latest("id").method == "********"

    @pytest.mark.parametrize(
        ("host", "endpoint"),
        [
            ("orders.example", "orders.example"),
            ("Orders.EXAMPLE.", "orders.example"),
            ("orders.example.:8443", "orders.example:8443"),
            ("[2001:DB8::7]:8443", "[2001:db8::7]:8443"),
            ("lie.example, orders.example", "orders.example"),
            ("orders.example,\torders.example ", "orders.example"),
            ("a b\x00/../;", "a b\\x00/../;"),
            ("", "testserver"),
            ("lie.example,", "testserver"),
        ],
    )
    def test_hosts(self, key: APIKey, host: str, endpoint: str) -> None:
        assert told(key, X_Forwarded_Host=host)[2] == f"gateway:{endpoint}"

    def test_the_host_of_the_question_where_no_other_is_told(self, key: APIKey, settings: Settings) -> None:
        settings.ALLOWED_HOSTS = ["*"]
        assert told(key, Host="Orders.example.")[2] == "gateway:orders.example"
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "CommonMiddleware" not in name]
        assert told(key, Host="no host!")[2] == "gateway:"

    @pytest.mark.parametrize(
        "headers",
        [
            {"X_Forwarded_Uri": "/a", "X_Forwarded_Method": "GET", "X_Original_URI": "/b"},
            {"X_Forwarded_Uri": "/a", "X_Forwarded_Method": "GET", "X_Original_Method": "get"},
            {"X_Original_URI": "/a", "X_Original_Method": "DELETE", "X_Forwarded_Uri": "/a?b"},
            {"X_Original_URI": "/a", "X_Original_Method": "DELETE", "X_Forwarded_Method": "GET"},
            {"X_Original_URI": "/a", "X_Original_Method": "DELETE, GET"},
            {"X_Original_URI": "/a", "X_Original_Method": "DE\x00LETE"},
        ],
    )
    def test_contradictions(self, recorded_way: Ask, key: APIKey, headers: dict[str, str]) -> None:
        answer = recorded_way("/door/", X_API_Key=key.key, **headers)
        assert (answer.status, CONTRADICTION in answer["X-Key-Refusal"]) == (400, True)
        row = AuditEvent.objects.get(event="refused")
        assert (row.reason, row.key_name, row.path, row.status) == ("conflict", "Billing", "/door/", 400)
        # Who has no good key learns nothing.
        assert recorded_way("/door/", X_API_Key=UNKNOWN, **headers).status == 401
        assert recorded_way("/door/", **headers).status == 401
        assert len(rows()) == 2

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"X_Original_URI": "/a"},
            {"X_Original_Method": "GET"},
            {"X_Original_URI": "/a", "X_Forwarded_Method": "GET"},
            {"X_Forwarded_Uri": "/a", "X_Forwarded_Method": " "},
        ],
    )
    def test_a_question_about_nothing(
        self, recorded_way: Ask, key: APIKey, headers: dict[str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """A client may let some proxies drop their own headers, by naming them in `Connection`."""
        for _ in range(2):
            answer = recorded_way("/door/", X_API_Key=key.key, **headers)
            assert (answer.status, "which request it asks about" in answer["X-Key-Refusal"]) == (400, True)
        assert rows() == [("refused", "conflict", "Billing", 400)] * 2
        assert len(errors(caplog)) == 1

    def test_both_customs_may_say_the_same(self, key: APIKey) -> None:
        assert told(key, "/a", "PUT", X_Original_URI="/a", X_Original_Method="PUT")[:2] == ("PUT", "/a")
        assert told(key, "/a", "PUT", X_Original_URI="", X_Original_Method=" ")[:2] == ("PUT", "/a")

    @pytest.mark.parametrize(
        ("address", "path"),
        [
            ("/captured/orders/7?secret=1", "/orders/7"),
            ("/captured/", "/"),
            ("/captured//host/x", "//host/x"),
            ("/captured/a%252Fb%0A", "/a%2Fb\\n"),
        ],
    )
    def test_a_captured_path(self, recorded_way: Ask, key: APIKey, address: str, path: str) -> None:
        answer = recorded_way(
            address,
            "PATCH",
            X_API_Key=key.key,
            X_Forwarded_Uri="/lie",
            X_Original_URI="/other",
            X_Forwarded_Method="GET",
        )
        assert answer.status == 200
        row = AuditEvent.objects.get(event="used")
        assert (row.method, row.path, row.endpoint) == ("PATCH", path, "gateway:testserver")

    def test_no_row_names_the_question(self, key: APIKey) -> None:
        """Nor what the question's own query asks for."""
        told(key, "/orders/?scope=x", address="/within/door/?scope=orders:read")
        event = AuditEvent.objects.get(event="used")
        assert all("scope" not in str(value) and "door" not in str(value) for value in vars(event).values())


@pytest.mark.parametrize(
    ("sent", "endpoint"),
    [("a.example", "a.example"), ("a.example, b.example", "a.example"), ("lie, a.example, b.example", "a.example")],
)
def test_behind_two(key: APIKey, settings: Settings, sent: str, endpoint: str) -> None:
    settings.KEYS = {"TRUSTED_PROXIES": 2}
    assert (
        told(key, X_Forwarded_Host=sent, X_Forwarded_For="203.0.113.9, 203.0.113.7, 10.0.0.1")[2]
        == f"gateway:{endpoint}"
    )
    assert AuditEvent.objects.get(event="used").address == "203.0.113.7"


class TestReports:
    @pytest.fixture
    def mails(self, settings: Settings) -> Iterator[None]:
        settings.ADMINS = [("Alice", "alice@example.com")]
        handler, logger = AdminEmailHandler(include_html=True), logging.getLogger("django.request")
        logger.addHandler(handler)
        yield
        logger.removeHandler(handler)

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.usefixtures("behind_proxy")
    @pytest.mark.parametrize("model", [APIKey, AuditEvent])
    def test_no_mail_holds_the_query_of_a_client(
        self, recorded_way: Ask, mails: None, key: APIKey, model: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        headers = {"X_API_Key": key.key, "X_Forwarded_Method": "GET", "X_Original_Method": "GET"}
        addresses = {"X_Forwarded_Uri": "/a?password=s3cret", "X_Original_URI": "/a?password=s3cret"}
        with renamed(model._meta.db_table):
            assert recorded_way("/door/", **headers, **addresses).status == 503
            assert recorded_way("/captured/a?password=s3cret", **headers).status == 503
        said = [str(message.message()) for message in mail.outbox]
        assert len(said) >= 2
        assert all("s3cret" not in text and str(key.key) not in text for text in [*said, caplog.text])
        assert any("HTTP_X_ORIGINAL_METHOD" in text for text in said)
