"""The one place that says yes or no to a key, asked directly: each answer, each objection, each end of a request."""

from datetime import timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIRequest
from django.db import OperationalError
from django.http import HttpRequest
from django.test import RequestFactory
from django.utils import timezone
from pytest_django import Settings

from keys.keyrings import EnvironmentKey
from keys.models import APIKey, AuditEvent
from keys.networks import Address
from keys.verification import Guard, Use, check, conclude, objection_to, scope_denial, use_of, uses_of
from keys.verification.decisions import Decisions
from tests.support.callers import UNKNOWN
from tests.support.log import rows

pytestmark = pytest.mark.django_db

# Nobody listens there.
AWAY = {"AUDIT_SINK": "redis://127.0.0.1:1/0?socket_connect_timeout=1"}
HERE, ELSEWHERE = ip_address("10.0.0.7"), ip_address("192.0.2.1")
REFUSED, NOT_CONFIGURED = "Invalid API key.", "API key not configured"
CONFLICT = "More than one API key was presented."


class Ring:
    """Knows no key, or one of another kind than the database's."""

    def __init__(self, holder: EnvironmentKey | None = None, error: Exception | None = None, keys: int = 1) -> None:
        self.holder, self.error, self.keys = holder, error, keys

    def is_configured(self) -> bool:
        return self.keys > 0

    def find(self, token: str) -> EnvironmentKey | None:
        if self.error is not None:
            raise self.error
        return self.holder


EMPTY = Guard(keyrings=(Ring(keys=0),))


def asked(token: str | None = None, **more: str) -> HttpRequest:
    """Return a request, with a key where there is one."""
    headers = {} if token is None else {"X-API-Key": token}
    return RequestFactory(headers={**headers, **more}).get("/guarded/", REMOTE_ADDR=str(HERE))


def checked(request: HttpRequest, guard: Guard | None = None, in_transaction: bool = False) -> Use:
    use = check(request, guard or Guard(), in_transaction=in_transaction)
    assert use is not None
    return use


def make(**fields: Any) -> APIKey:
    """Make a key of these fields, whatever may be wrong with them."""
    key = APIKey.objects.create(name="TTS")
    APIKey._base_manager.filter(pk=key.pk).update(**fields)
    return APIKey.objects.get(pk=key.pk)


class TestObjections:
    @pytest.mark.parametrize(
        ("fields", "address", "reason"),
        [
            ({}, HERE, ""),
            ({}, None, ""),
            ({"expires_at": timezone.now() + timedelta(days=1)}, HERE, ""),
            ({"is_active": False}, HERE, "inactive"),
            ({"expires_at": timezone.now()}, HERE, "expired"),
            ({"is_active": False, "expires_at": timezone.now(), "allowed_ips": ["192.0.2.0/24"]}, HERE, "inactive"),
            ({"expires_at": timezone.now(), "allowed_ips": ["192.0.2.0/24"]}, HERE, "expired"),
            ({"allowed_ips": ["10.0.0.0/8"]}, HERE, ""),
            ({"allowed_ips": ["10.0.0.0/8"]}, ELSEWHERE, "address"),
            ({"allowed_ips": ["10.0.0.0/8", "192.0.2.1"]}, ELSEWHERE, ""),
            ({"allowed_ips": ["10.0.0.0/8"]}, None, "address"),
            # What only SQL can write opens nothing.
            ({"allowed_ips": {}}, HERE, "address"),
            ({"allowed_ips": "10.0.0.7"}, HERE, "address"),
        ],
    )
    def test_each_has_its_reason_and_the_first_counts(
        self, fields: dict[str, Any], address: Address | None, reason: str
    ) -> None:
        assert objection_to(make(**fields), address) == reason

    def test_there_is_none_to_a_key_that_its_keyring_has_found_elsewhere(self) -> None:
        assert objection_to(EnvironmentKey("env:WEBHOOK_API_KEY"), None) == ""


class TestAnswers:
    def test_a_good_key_is_let_in_and_its_use_is_there(self) -> None:
        key = APIKey.objects.create(name="TTS", allowed_ips=["10.0.0.0/8"])
        use = checked(asked(key.key))
        assert (use.is_good, use.status, use.holder, use.is_concluded) == (True, 200, key, False)
        assert rows() == [("used", "", "TTS", None)]

    def test_a_key_of_another_keyring_too(self) -> None:
        use = checked(asked("x" * 40), Guard(keyrings=(Ring(), Ring(EnvironmentKey("env:WEBHOOK_API_KEY")))))
        assert use.is_good
        assert rows() == [("used", "", "env:WEBHOOK_API_KEY", None)]

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [({"is_active": False}, "inactive"), ({"expires_at": timezone.now()}, "expired"),
         ({"allowed_ips": ["192.0.2.0/24"]}, "address")],
    )  # fmt: skip
    def test_a_key_that_is_objected_to_is_refused(self, fields: dict[str, Any], reason: str) -> None:
        token = APIKey.objects.create(name="TTS", **fields).key
        use = checked(asked(token))
        assert (use.is_good, use.status, use.detail, use.is_concluded) == (False, 401, REFUSED, True)
        assert rows() == [("refused", reason, "TTS", 401)]

    @pytest.mark.parametrize(
        ("token", "more", "reason", "status", "detail"),
        [
            (UNKNOWN, {}, "unknown", 401, REFUSED),
            ("", {}, "malformed", 401, REFUSED),
            ("é", {}, "malformed", 401, REFUSED),
            (f"{UNKNOWN},{UNKNOWN}", {}, "conflict", 400, CONFLICT),
            ("é,é", {}, "conflict", 400, CONFLICT),
            (
                UNKNOWN,
                {"Authorization": f"Api-Key {'1' * 40}"},
                "conflict",
                400,
                CONFLICT,
            ),
        ],
    )
    def test_what_is_no_key_is_refused(
        self, token: str, more: dict[str, str], reason: str, status: int, detail: str
    ) -> None:
        use = checked(asked(token, **more))
        assert (use.status, use.detail, use.holder, use.is_concluded) == (status, detail, None, True)
        assert rows() == [("refused", reason, "", status)]

    def test_no_key_is_left_to_others(self) -> None:
        assert check(asked(), Guard()) is None
        assert rows() == []

    def test_or_refused_where_the_guard_answers_for_it(self) -> None:
        use = checked(asked(), Guard(answers_missing=True, refused_detail="Forbidden."))
        assert (use.status, use.detail, use.is_concluded) == (401, "Forbidden.", True)
        assert rows() == []

    @pytest.mark.parametrize("token", [None, UNKNOWN])
    def test_where_no_key_is_set_every_request_is_told_so(self, token: str | None) -> None:
        use = checked(asked(token), EMPTY)
        assert (use.status, use.detail, use.is_unavailable) == (503, NOT_CONFIGURED, False)
        assert rows() == ([] if token is None else [("refused", "unknown", "", 503)])

    def test_without_the_key_store_nobody_is_refused(self) -> None:
        use = checked(asked(UNKNOWN), Guard(keyrings=(Ring(error=OperationalError()),)))
        assert (use.status, use.detail) == (503, "API keys cannot be checked right now.")
        assert (use.is_unavailable, use.is_concluded) == (True, True)
        assert rows() == []

    @pytest.mark.parametrize("is_good", [True, False])
    def test_without_the_log_neither(self, is_good: bool, settings: Settings) -> None:
        token = str(APIKey.objects.create(name="TTS", is_active=is_good).key)
        settings.KEYS = AWAY
        use = checked(asked(token))
        assert (use.status, use.is_unavailable, use.is_concluded) == (503, True, True)


class TestUseOf:
    def test_without_the_middleware_it_is_decided_now(self) -> None:
        request = asked(APIKey.objects.create(name="TTS").key)
        use = use_of(request, Guard())
        assert use is not None
        assert (use.is_good, use.in_transaction) == (True, False)

    def test_what_was_decided_is_not_decided_again(self) -> None:
        request = asked(APIKey.objects.create(name="TTS").key)
        request.api_key_uses = Decisions(request)  # type: ignore[attr-defined]
        use = use_of(request, Guard())
        assert use_of(request, Guard()) is use
        assert use_of(request, Guard(refused_detail="Forbidden.")) is not use
        assert [event for event, *_ in rows()] == ["used", "used"]

    def test_nor_for_the_same_key_in_another_header(self) -> None:
        key = str(APIKey.objects.create(name="TTS").key)
        request = asked(key)
        request.api_key_uses = Decisions(request)  # type: ignore[attr-defined]
        use = use_of(request, Guard())
        del request.META["HTTP_X_API_KEY"]
        request.META["HTTP_AUTHORIZATION"] = f"Api-Key {key}"
        assert use_of(request, Guard()) is use
        assert rows() == [("used", "", "TTS", None)]

    @pytest.mark.parametrize("change", [{"HTTP_X_API_KEY": UNKNOWN}, {"REMOTE_ADDR": str(ELSEWHERE)}])
    def test_another_key_or_address_is_another_decision(self, change: dict[str, str]) -> None:
        request = asked(APIKey.objects.create(name="TTS", allowed_ips=[str(HERE)]).key)
        request.api_key_uses = Decisions(request)  # type: ignore[attr-defined]
        first = use_of(request, Guard())
        request.META.update(change)
        second = use_of(request, Guard())
        assert first is not None
        assert second is not None
        assert (first.status, second.status) == (200, 401)

    def test_that_there_was_no_key_does_not_hide_one(self) -> None:
        request = asked()
        request.api_key_uses = Decisions(request)  # type: ignore[attr-defined]
        assert use_of(request, Guard()) is None
        request.META["HTTP_X_API_KEY"] = UNKNOWN
        use = use_of(request, Guard())
        assert use is not None
        assert use.status == 401

    def test_no_answer_behind_a_guard_is_kept_for_others(self) -> None:
        request = asked()
        use_of(request, Guard())
        request._cache_update_cache = True  # type: ignore[attr-defined]
        assert request._cache_update_cache is False  # type: ignore[attr-defined]
        assert (type(request).__name__, isinstance(request, WSGIRequest)) == ("WSGIRequest", True)


class TestDenials:
    def test_the_first_scope_that_is_missing_is_named_and_noted(self) -> None:
        use = Use(Guard(), HERE, holder=APIKey.objects.create(name="TTS", scopes=["users:read"]))
        assert (scope_denial(use, ["users:read"]), use.denied) == ("", "")
        denied = scope_denial(use, ["users:read", "users:write", "mail:send"])
        assert (denied, use.denied) == ("This API key lacks the scope “users:write”.", "scope")

    def test_the_use_of_a_key_is_that_which_was_asked_for_last(self) -> None:
        request, key, other = asked(), *(APIKey.objects.create(name=name) for name in ("TTS", "other"))
        request.api_key_use = use = Use(Guard(), HERE, holder=key)  # type: ignore[attr-defined]
        assert uses_of(request, key) == [use]
        assert uses_of(request, other) == uses_of(asked(), key) == []


class TestEnds:
    @pytest.mark.parametrize(
        ("denial", "status", "row"),
        [
            ("", 200, ("used", "", "TTS", 200)),
            ("", 403, ("used", "", "TTS", 403)),
            ("scope", 403, ("refused", "scope", "TTS", 403)),
            ("rate", 429, ("refused", "rate", "TTS", 429)),
            # Somebody else had the last word.
            ("scope", 200, ("used", "", "TTS", 200)),
            ("scope", 429, ("used", "", "TTS", 429)),
            ("rate", 403, ("used", "", "TTS", 403)),
        ],
    )
    def test_the_end_of_a_use_is_put_on_record_once(
        self, denial: str, status: int, row: tuple[str, str, str, int], settings: Settings
    ) -> None:
        settings.KEYS = {"OUTCOME_DELAY": timedelta(0)}
        use = checked(asked(APIKey.objects.create(name="TTS").key))
        use.denial = denial
        conclude(use, status)
        assert rows() == [row]
        assert AuditEvent.objects.get(event=row[0]).duration_ms is not None
        conclude(use, 500)
        assert rows() == [row]

    @pytest.mark.parametrize("status", [200, 404, 403, 500])
    def test_a_denial_that_decided_is_a_refusal_whatever_the_status(self, status: int, settings: Settings) -> None:
        settings.KEYS = {"OUTCOME_DELAY": timedelta(0)}
        use = checked(asked(APIKey.objects.create(name="TTS").key))
        use.denied = "scope"
        conclude(use, status)
        assert rows() == [("refused", "scope", "TTS", status)]

    def test_a_refusal_in_a_transaction_waits_for_its_end(self) -> None:
        use = checked(asked(UNKNOWN), in_transaction=True)
        assert (use.status, use.is_concluded, rows()) == (401, False, [])
        conclude(use, 403)
        conclude(use, 500)
        assert rows() == [("refused", "unknown", "", 403)]
