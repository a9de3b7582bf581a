"""The answers of a guarded view, each row of the contract's table, in Django REST framework and plain Django."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from keys.models import APIKey, AuditEvent
from tests.support.statements import capture

pytestmark = pytest.mark.django_db

UNKNOWN = "0123456789abcdef" * 2 + "01234567"
NO_KEY = {"detail": "Authentication credentials were not provided."}
REFUSED = {"detail": "Invalid API key."}
CONFLICT = {"detail": "More than one API key was presented."}

both_kinds = pytest.mark.parametrize("path", ["/scoped/", "/plain/"])


def get(path: str, x_api_key: str | None = None, authorization: str | None = None, **extra: Any) -> Any:
    headers = {"X-API-Key": x_api_key, "Authorization": authorization}
    return Client().get(path, headers={name: value for name, value in headers.items() if value is not None}, **extra)


def logged() -> list[tuple[str, str, str, int | None]]:
    """The uses and refusals on the record."""
    rows = AuditEvent.objects.exclude(method="").order_by("id")
    return list(rows.values_list("event", "reason", "key_name", "status"))


@both_kinds
class TestTheTable:
    def test_no_key(self, path: str) -> None:
        for authorization in (None, "Bearer abc", f"Basic {UNKNOWN}"):
            response = get(path, authorization=authorization)
            assert (response.status_code, response.json()) == (401, NO_KEY)
            assert response["WWW-Authenticate"] == 'Api-Key realm="api"'
        assert logged() == []

    def test_a_good_key(self, path: str, key: APIKey) -> None:
        for headers in ((key.key, None), (None, f"Api-Key {key.key}"), (None, f"aPI-kEY  {key.key}"),
                        (key.key, f"Api-Key {key.key}"), (key.key, "Bearer abc")):  # fmt: skip
            response = get(path, *headers)
            assert (response.status_code, response.json()["name"]) == (200, "TTS")
        assert logged() == [("used", "", "TTS", 200)] * 5

    def test_a_good_key_in_either_form(self, path: str, settings: Settings) -> None:
        settings.KEYS = {"PREFIX": "auth_live_"}
        key = APIKey.objects.create(name="TTS", scopes=["users:read"])
        assert key.key.startswith("auth_live_")
        assert [get(path, key.key).status_code, get(path, key.key[10:]).status_code] == [200, 200]
        assert get(path, key.key, f"Api-Key {key.key[10:]}").status_code == 200

    def test_every_refused_key_gets_the_same_answer(self, path: str, key: APIKey) -> None:
        past = timezone.now() - timedelta(seconds=1)
        elsewhere = APIKey.objects.create(name="elsewhere", allowed_ips=["10.0.0.0/8"], scopes=["users:read"])
        inactive = APIKey.objects.create(name="inactive", is_active=False)
        expired = APIKey.objects.create(name="expired", expires_at=past)
        refused = [UNKNOWN, "", "é", "a" * 129, key.key[:-1], key.key.upper(), str(APIKey.objects.get(pk=key.pk).key),
                   inactive.key, expired.key, elsewhere.key]  # fmt: skip
        answers = [get(path, token) for token in refused]
        answers += [get(path, None, f"Api-Key {token}", REMOTE_ADDR="192.0.2.1") for token in refused]
        for response in answers:
            assert (response.status_code, response.json()) == (401, REFUSED)
            assert (response.content, response.items()) == (answers[0].content, answers[0].items())
            assert response["WWW-Authenticate"] == 'Api-Key realm="api"'
        reasons = ["unknown", *["malformed"] * 3, *["unknown"] * 3, "inactive", "expired", "address"]
        assert [reason for _, reason, *_ in logged()] == reasons * 2
        assert [name for _, _, name, _ in logged()][7:10] == ["inactive", "expired", "elsewhere"]

    def test_two_different_keys(self, path: str, key: APIKey) -> None:
        for headers in ((key.key, f"Api-Key {UNKNOWN}"), (UNKNOWN, f"Api-Key {key.key}"), (key.key, "Api-Key "),
                        ("", f"Api-Key {key.key}")):  # fmt: skip
            response = get(path, *headers)
            assert (response.status_code, response.json()) == (400, CONFLICT)
        assert {row[:2] for row in logged()} == {("refused", "conflict")}

    def test_a_repeated_header(self, path: str, key: APIKey) -> None:
        # As servers hand it on: joined by commas.
        for value in (f"{key.key},{key.key}", f"{key.key}, {UNKNOWN}", f"{UNKNOWN},{key.key}", f"{key.key},",
                              f",{key.key}",
                      ",", "é," + key.key, ",".join([key.key] * 50)):  # fmt: skip
            assert (get(path, value).status_code, get(path, None, f"Api-Key {value}").status_code) == (400, 400)
        assert get(path, None, f"Api-Key {key.key},Api-Key {key.key}").status_code == 400
        assert {row[:2] for row in logged()} == {("refused", "conflict")}

    def test_a_scope_missing(self, path: str) -> None:
        key = APIKey.objects.create(name="TTS", scopes=["employees:read"])
        response = get(path, key.key)
        assert (response.status_code, response.json()) == (
            403,
            {"detail": "This API key lacks the scope “users:read”."},
        )
        assert logged() == [("refused", "scope", "TTS", 403)]

    @pytest.mark.parametrize(
        "value",
        ["a" * 1_000_000, "\x00", "a\x00b", "a\nb", "a\r\nX-Evil: 1", "😀" * 40, "\udcff", "\x80", "\x7f",
         "\t", ",", " a b "],
        ids=lambda value: ascii(value[:12]),
    )  # fmt: skip
    def test_awkward_values_are_refused(self, path: str, value: str) -> None:
        assert get(path, value).status_code in {400, 401}
        assert get(path, None, f"Api-Key {value}").status_code in {400, 401}
        assert len(logged()) == 2

    def test_answers_stay_out_of_caches(self, path: str, key: APIKey) -> None:
        poor = APIKey.objects.create(name="poor", scopes=[])
        answers = [
            get(path),
            get(path, UNKNOWN),
            get(path, key.key, f"Api-Key {UNKNOWN}"),
            get(path, poor.key),
            get(path, key.key),
        ]
        assert [response.status_code for response in answers] == [401, 401, 400, 403, 200]
        for response in answers:
            assert response["Cache-Control"] == "no-store"
            assert {"X-API-Key", "Authorization"} <= {name.strip() for name in response["Vary"].split(",")}

    def test_a_key_elsewhere_in_the_request_is_not_read(self, path: str, key: APIKey) -> None:
        client = Client()
        client.cookies["X-API-Key"] = key.key
        query = {"key": key.key, "api_key": key.key, "X-API-Key": key.key}
        assert client.get(path, query).status_code == 401
        assert client.post(path, query).status_code == 401
        assert client.post(path, query, content_type="application/json").status_code == 401
        assert logged() == []


def look_ups(statements: list[str]) -> list[str]:
    return [sql for sql in statements if connection.ops.quote_name(APIKey._meta.db_table) in sql]


class TestWhatItCosts:
    @pytest.mark.parametrize("path", ["/guarded/", "/plain/"])
    @pytest.mark.parametrize("value", ["", " ", "a" * 129, "a" * 1_000_000, "é", "a\x00", "a\n", ",é", "," * 129])
    def test_what_cannot_be_a_key_is_not_looked_up(self, path: str, value: str) -> None:
        with capture() as statements:
            assert get(path, value).status_code in {400, 401}
            assert get(path, "a", f"Api-Key b{value}").status_code == 400
        assert look_ups(statements) == []

    @pytest.mark.parametrize("path", ["/guarded/", "/plain/"])
    def test_a_good_key_is_looked_up_once(self, path: str, key: APIKey) -> None:
        # The view reads the name and the scopes of request.auth, the default throttle its rate.
        with capture() as statements:
            assert get(path, key.key).status_code == 200
        assert len(look_ups(statements)) == 1
        # The look-up, the row of the use and its outcome; the test's own transaction adds savepoints.
        assert len([sql for sql in statements if "SAVEPOINT" not in sql]) <= 3

    def test_an_unknown_key_is_looked_up_once(self) -> None:
        with capture() as statements:
            assert get("/guarded/", UNKNOWN).status_code == 401
        assert len(look_ups(statements)) == 1


@pytest.mark.parametrize("path", ["/cached/", "/cached-plain/"])
def test_no_cache_of_pages_lets_anybody_past_the_guard(path: str, key: APIKey) -> None:
    assert get(path, key.key).status_code == 200
    assert get(path).status_code == 401
    assert get(path, UNKNOWN).status_code == 401
    key.deactivate()
    assert get(path, key.key).status_code == 401


def test_a_key_in_the_way_of_a_site_wide_cache_is_checked_each_time(settings: Settings, key: APIKey) -> None:
    cache = "django.middleware.cache"
    settings.MIDDLEWARE = [f"{cache}.UpdateCacheMiddleware", *settings.MIDDLEWARE, f"{cache}.FetchFromCacheMiddleware"]
    for path in ("/guarded/", "/plain/"):
        assert [get(path, key.key).status_code, get(path, key.key).status_code, get(path).status_code] == [
            200,
            200,
            401,
        ]
    key.deactivate()
    assert get("/guarded/", key.key).status_code == 401
    assert len(logged()) == 5
