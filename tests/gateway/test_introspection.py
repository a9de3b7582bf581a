"""What a service is told of a key that was presented to it: RFC 7662, and RFC 6749, 5.2 for what is wrong."""

from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from urllib.parse import urlencode

import pytest
import time_machine
from django.core.handlers.asgi import ASGIRequest
from django.db import connection, models
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from keys import lifecycle
from keys.gateway import IntrospectionView
from keys.models import APIKey, AuditEvent
from tests.gateway.asking import Unread
from tests.support.introspecting import ADDRESS, FORM, INACTIVE, ask, send, uses
from tests.support.keys import make_key

pytestmark = [pytest.mark.django_db, pytest.mark.urls("example_project.urls")]

TOO_LONG = "The form is too long, or it cannot be read."
PAIR = [("Orders", "", "introspect", 200), ("Billing", "key:Orders", "introspection:Orders", 200)]


@pytest.fixture
def orders() -> APIKey:
    """The key of the service that asks."""
    return make_key("Orders", scopes=["keys:introspect"])


@pytest.fixture
def billing() -> APIKey:
    """The key that was presented to it."""
    return make_key("Billing", scopes=["orders:read", "users:*"])


def is_active(answer: Any) -> bool:
    assert answer.status_code == 200, answer.content
    active: bool = answer.json()["active"]
    assert active or answer.content == INACTIVE
    return active


def test_both_uses_are_on_record(orders: APIKey, billing: APIKey) -> None:
    answer = ask(orders, billing)
    assert answer.status_code == 200
    assert answer.json() == {
        "active": True, "scope": "orders:read users:*", "client_id": billing.prefix, "username": "Billing",
        "sub": f"key:{billing.pk}", "iat": int(billing.created_at.timestamp()),
    }  # fmt: skip
    assert [use[2:] for use in uses()] == PAIR


class TestAnswers:
    def test_are_json_that_nobody_stores(self, orders: APIKey, billing: APIKey) -> None:
        for token in (billing, "0" * 40):
            answer = ask(orders, token)
            assert answer["Content-Type"] == "application/json"
            assert answer["Cache-Control"] == "no-store"
            assert answer["Vary"] == "X-API-Key, Authorization"
            assert "Set-Cookie" not in answer
            assert not answer.cookies

    def test_say_nothing_of_an_inactive_key_but_that(self, orders: APIKey) -> None:
        revoked, expired = make_key("Revoked", is_active=False), make_key("Expired")
        models.QuerySet(APIKey).filter(pk=expired.pk).update(expires_at=timezone.now())
        limited = make_key("Limited", allowed_ips=["192.0.2.0/24"])
        refused: list[APIKey | str] = [
            revoked,
            expired,
            limited,
            "0" * 40,
            "short",
            "a,b",
            "x" * 129,
            "ключ",
            "\0",
            "😀",
            " ",
            "x" * 60_000,
        ]
        answers = [ask(orders, token) for token in refused]
        answers.append(ask(orders, limited, address="203.0.113.7"))
        assert {(answer.status_code, answer.content, str(answer.headers)) for answer in answers} == {
            (200, INACTIVE, str(answers[0].headers))
        }
        reasons = AuditEvent.objects.exclude(actor="").filter(endpoint="introspection:Orders")
        assert [*reasons.order_by("id").values_list("reason", flat=True)][:6] == [
            "inactive", "expired", "address", "unknown", "unknown", "conflict"
        ]  # fmt: skip

    def test_tell_when_it_ends(self, orders: APIKey, settings: Settings) -> None:
        end = timezone.now() + timedelta(days=3)
        assert ask(orders, make_key("Ending", expires_at=end)).json()["exp"] == int(end.timestamp())
        assert "exp" not in ask(orders, make_key("Endless")).json()

    def test_tell_of_a_rotated_key_when_its_grace_ends(self, orders: APIKey, billing: APIKey) -> None:
        successor = billing.rotate(timedelta(hours=1))
        before, after = ask(orders, billing).json(), ask(orders, successor).json()
        assert before["exp"] == int(APIKey.objects.get(pk=billing.pk).expires_at.timestamp())
        assert "exp" not in after
        # Whoever keeps something by it goes on after a rotation, and after the next.
        assert before["sub"] == after["sub"] == f"key:{billing.pk}"
        assert before["client_id"] != after["client_id"]
        assert ask(orders, successor.rotate()).json()["sub"] == f"key:{billing.pk}"
        with time_machine.travel(timezone.now() + timedelta(hours=2)):
            assert [is_active(ask(orders, key)) for key in (billing, successor)] == [False, True]

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("use_tz", [True, False])
    def test_tell_instants_around_the_clock_change(self, settings: Settings, use_tz: bool) -> None:
        settings.USE_TZ, settings.TIME_ZONE = use_tz, "Europe/Berlin"
        connection.close()  # psycopg asks for the time zone when it connects
        # Before and after the clocks go back. With USE_TZ the hour that comes twice is told apart, too.
        made, end = datetime(2026, 10, 24, 23, 30, tzinfo=UTC), datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
        made = made + timedelta(hours=2) if use_tz else made
        with time_machine.travel(made.timestamp(), tick=False):
            caller = make_key("Caller", scopes=["keys:introspect"])
            key = lifecycle.create("Night", expires_at=end if use_tz else datetime(2026, 10, 26, 2, 30))  # noqa: DTZ001
            found = ask(caller, key).json()
        connection.close()
        assert (found["iat"], found["exp"]) == (made.timestamp(), end.timestamp())

    def test_name_scopes_as_oauth_can(self, orders: APIKey, billing: APIKey) -> None:
        # Past the validators: a blank would make two scopes of one.
        every: Any = models.QuerySet(APIKey).filter(pk=billing.pk)
        for held, said in ((["a:b", "c:d e:f", 'q"', 7, "*"], "a:b *"), ("users:read", ""), ({}, ""), ([], "")):
            every.update(scopes=held)
            assert ask(orders, billing).json()["scope"] == said

    def test_accept_both_forms_of_a_key(self, settings: Settings, orders: APIKey) -> None:
        settings.KEYS = {"PREFIX": "auth_live_"}
        key = make_key("Prefixed")
        bare = str(key.key).removeprefix("auth_live_")
        assert [is_active(ask(orders, token)) for token in (f"auth_live_{bare}", bare)] == [True, True]
        assert bare not in str(list(AuditEvent.objects.values()))


class TestTheAddress:
    @pytest.mark.parametrize("address", ["192.0.2.7", "192.0.2.7:443", "::ffff:192.0.2.7", " 192.0.2.7 "])
    def test_is_that_of_whoever_presented_the_key(self, orders: APIKey, address: str) -> None:
        key = make_key("Limited", allowed_ips=["192.0.2.0/24"])
        assert is_active(ask(orders, key, address=address))
        assert AuditEvent.objects.get(key_name="Limited", event="used").address == "192.0.2.7"
        # The caller's own is in its own row.
        assert AuditEvent.objects.get(key_name="Orders", event="used").address == "127.0.0.1"

    @pytest.mark.parametrize("address", ["198.51.100.1", ""])
    def test_elsewhere_or_unknown_opens_no_limited_key(self, orders: APIKey, address: str) -> None:
        assert not is_active(ask(orders, make_key("Limited", allowed_ips=["192.0.2.0/24"]), address=address))
        assert AuditEvent.objects.get(key_name="Limited", reason="address").address == (address or None)

    def test_of_the_caller_is_not_taken_for_it(self, orders: APIKey) -> None:
        assert not is_active(ask(orders, make_key("Limited", allowed_ips=["127.0.0.1"])))

    @pytest.mark.parametrize("address", ["somewhere", "192.0.2", "0" * 10_000, "192.0.2.1,192.0.2.2", "\0", "😀"])
    def test_that_is_none_is_a_mistake(self, orders: APIKey, billing: APIKey, address: str) -> None:
        assert ask(orders, billing, address=address).json() == {
            "error": "invalid_request", "error_description": "The address is no IP address."
        }  # fmt: skip


class TestRequests:
    @pytest.mark.parametrize(
        "more",
        [
            "&token_type_hint=access_token", "&token_type_hint=nonsense", "&token_type_hint=", "&x=1&x=2&active=true",
            "&token=", "&address=", "&client_id=Orders&client_secret=x",
        ],
    )  # fmt: skip
    def test_may_say_more(self, orders: APIKey, billing: APIKey, more: str) -> None:
        assert is_active(send(orders, f"token={billing.key}{more}"))

    @pytest.mark.parametrize(
        ("body", "mistake"),
        [
            ("", "There is no token in the form."),
            ("token=", "There is no token in the form."),
            ("Token=x", "There is no token in the form."),
            ("token=a&token=b", "The form repeats token."),
            ("token=a&token=a", "The form repeats token."),
            ("token=a&token_type_hint=b&token_type_hint=b", "The form repeats token_type_hint."),
            ("token=a&address=192.0.2.1&address=192.0.2.1", "The form repeats address."),
            ("token=a&" + "x=1&" * 2000, TOO_LONG),
            ("token=a&x=" + "x" * 3_000_000, TOO_LONG),
            ("token=" + "%41" * 350_000, TOO_LONG),
        ],
    )
    def test_with_a_mistake_are_told_which(self, orders: APIKey, body: str, mistake: str) -> None:
        answer = send(orders, body)
        assert (answer.status_code, answer.json()) == (
            400, {"error": "invalid_request", "error_description": mistake}
        )  # fmt: skip
        assert answer["Cache-Control"] == "no-store"
        assert uses() == [("used", "", "Orders", "", "introspect", 400)]

    def test_of_another_kind_are_not_read(self, orders: APIKey, billing: APIKey) -> None:
        for body, kind in (
            (f'{{"token": "{billing.key}"}}', "application/json"),
            ("[" * 100_000, "application/json"),
            (f"token={billing.key}", "text/plain"),
            (f"token={billing.key}", ""),
        ):
            answer = send(orders, body, kind)
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request"), kind
            assert FORM in answer.json()["error_description"]

    def test_in_parts_are_read_too(self, orders: APIKey, billing: APIKey) -> None:
        multipart = b'--b\r\nContent-Disposition: form-data; name="token"\r\n\r\n%s\r\n--b--\r\n' % billing.key.encode()
        assert is_active(send(orders, multipart, "multipart/form-data; boundary=b"))
        for body, kind in ((multipart, "multipart/form-data"), (multipart[:40], "multipart/form-data; boundary=b")):
            assert send(orders, body, kind).json()["error"] == "invalid_request"

    @pytest.mark.parametrize("charset", ["utf-8", "UTF8", "latin-1", "utf-16", "hex", "no-such", "rot13"])
    def test_are_utf_8_whatever_they_say(self, orders: APIKey, billing: APIKey, charset: str) -> None:
        assert is_active(send(orders, f"token={billing.key}", f"{FORM}; charset={charset}"))

    @pytest.mark.parametrize("body", [b"token=\xff\xfe", b"token=%ff%00", b"token=%F0%9F%98%80", b"\xff", b"&;=%"])
    def test_with_broken_encodings_fail_nobody(self, orders: APIKey, body: bytes) -> None:
        answer = send(orders, body)
        assert answer.status_code in {200, 400}
        assert answer.status_code == 400 or not is_active(answer)

    @pytest.mark.parametrize("length", ["9" * 5000, "-1", "many"])
    def test_of_a_length_that_is_none_fail_nobody(self, orders: APIKey, billing: APIKey, length: str) -> None:
        assert send(orders, f"token={billing.key}", CONTENT_LENGTH=length).status_code == 400

    def test_that_are_long_are_not_read(self, orders: APIKey) -> None:
        body: Any = {"wsgi.input": Unread()}
        answer = send(orders, "", CONTENT_LENGTH="65537", **body)
        assert answer.json()["error_description"] == TOO_LONG

    @pytest.mark.parametrize(("length", "status"), [(65_536, 200), (65_537, 400)])
    def test_whose_length_is_not_told_are_measured(self, orders: APIKey, length: int, status: int) -> None:
        headers = [(b"content-type", FORM.encode()), (b"x-api-key", str(orders.key).encode())]
        scope = {"type": "http", "method": "POST", "path": ADDRESS, "query_string": b"", "headers": headers}
        body = b"token=short&more=".ljust(length, b"x")
        assert IntrospectionView.as_view()(ASGIRequest(scope, BytesIO(body))).status_code == status

    def test_in_the_query_are_never_read(self, orders: APIKey, billing: APIKey) -> None:
        query = urlencode({"token": billing.key, "address": "192.0.2.1"})
        answer = send(orders, "", path=f"{ADDRESS}?{query}")
        assert answer.json()["error_description"] == "There is no token in the form."
        assert not is_active(send(orders, "token=x", path=f"{ADDRESS}?{query}"))
        assert str(billing.key) not in str(list(AuditEvent.objects.values()))

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
    def test_by_another_method_are_refused(self, orders: APIKey, billing: APIKey, method: str) -> None:
        client = Client(headers={"X-API-Key": str(orders.key)})
        answer = client.generic(method, f"{ADDRESS}?token={billing.key}", f"token={billing.key}", FORM)
        assert (answer.status_code, answer["Allow"], answer["Cache-Control"]) == (405, "POST", "no-store")
        assert [use[2:] for use in uses()] == [("Orders", "", "introspect", 405)]


def test_a_form_that_something_else_has_read_is_a_mistake(settings: Settings, orders: APIKey, billing: APIKey) -> None:
    settings.MIDDLEWARE = [f"{__name__}.reading", *settings.MIDDLEWARE]
    assert ask(orders, billing).json()["error"] == "invalid_request"


def reading(get_response: Any) -> Any:
    """Be a middleware that reads what is sent, and leaves nothing."""

    def answer(request: Any) -> Any:
        request.read()
        return get_response(request)

    return answer


class TestCallers:
    def test_need_a_key(self, billing: APIKey) -> None:
        client = Client()
        answers = [
            client.post(ADDRESS, f"token={billing.key}", content_type=FORM),
            ask("0" * 40, billing),
            ask(make_key("Revoked", scopes=["keys:introspect"], is_active=False), billing),
            # Its own secret proves nothing of the caller (RFC 7662, 4).
            client.post(ADDRESS, f"token={billing.key}&client_id=Billing&client_secret={billing.key}", FORM),
        ]
        assert [answer.status_code for answer in answers] == [401] * 4
        assert {answer["WWW-Authenticate"] for answer in answers} == {'Api-Key realm="api"'}
        assert "active" not in "".join(answer.text for answer in answers)
        assert not AuditEvent.objects.filter(key_name="Billing", event__in=["used", "refused"]).exists()

    def test_need_the_scope(self, billing: APIKey) -> None:
        for held in ([], ["users:read"], ["orders:*"]):
            answer = ask(make_key("Other", scopes=held), billing)
            assert (answer.status_code, answer["Cache-Control"]) == (403, "no-store")
        assert not AuditEvent.objects.filter(key_name="Billing", event__in=["used", "refused"]).exists()

    @pytest.mark.parametrize("held", ["keys:introspect", "keys:*", "*"])
    def test_hold_it_by_a_wildcard_too(self, billing: APIKey, held: str) -> None:
        assert is_active(ask(make_key("Orders", scopes=[held]), billing))

    def test_keep_to_their_rate(self, billing: APIKey, empty_cache: None) -> None:
        orders = make_key("Orders", scopes=["keys:introspect"], rate="2/min")
        answers = [ask(orders, token) for token in (billing, "0" * 40, billing)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert 0 < int(answers[2]["Retry-After"]) <= 60
        assert "active" not in answers[2].text
        assert uses()[-1] == ("refused", "rate", "Orders", "", "introspect", 429)

    def test_take_nothing_from_the_rate_of_the_key_that_they_ask_about(self, orders: APIKey, empty_cache: None) -> None:
        key = make_key("Slow", rate="1/min")
        assert all(is_active(ask(orders, key)) for _ in range(3))

    def test_may_ask_about_their_own_key(self, orders: APIKey) -> None:
        assert ask(orders, orders).json()["username"] == "Orders"
        assert [use[2:] for use in uses()] == [
            ("Orders", "", "introspect", 200), ("Orders", "key:Orders", "introspection:Orders", 200)
        ]  # fmt: skip

    def test_are_answered_by_the_project_where_they_are_refused(self, settings: Settings, billing: APIKey) -> None:
        settings.KEYS = {"REFUSAL_RESPONSE": "tests.gateway.test_introspection.in_an_envelope"}
        answer = ask(make_key("Other"), billing)
        assert (answer.status_code, answer.json()) == (403, {"ok": False})


def in_an_envelope(request: Any, status: int, detail: str) -> Any:
    from django.http import JsonResponse

    return JsonResponse({"ok": False}, status=200)
