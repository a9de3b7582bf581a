"""Keys of another system: what of a record counts, and what a mistake of a project comes to."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import Settings

from keys import signals
from keys.authentication import ServicePrincipal
from keys.keyrings import EnvironmentKey, LegacyKey, LegacyKeyring
from keys.models import APIKey, AuditEvent, KeyOrigin
from keys.moments import instant
from keys.throttling import APIKeyRateThrottle
from keys.verification import Guard, holder_of
from tests.keyrings.old_tokens import TOKEN, OldTokens
from tests.support.callers import UNAVAILABLE, get
from tests.support.log import errors, rows

pytestmark = pytest.mark.django_db


@pytest.fixture
def unadopted(old: type[OldTokens]) -> type[OldTokens]:
    old.adopts = False
    return old


def texts_of_everything() -> str:
    """Return all that the tables hold."""
    held = [*APIKey.objects.values(), *AuditEvent.objects.values(), *KeyOrigin.objects.values()]
    return "\n".join(map(str, held))


class TestARecord:
    def test_opens_a_view_and_is_named_in_the_log(self, unadopted: type[OldTokens]) -> None:
        assert get("/orders/", TOKEN).status_code == 200
        assert rows() == [("used", "", "Billing", 200)]
        assert not APIKey.objects.exists()
        assert not KeyOrigin.objects.exists()

    def test_that_there_is_not_is_a_strangers(self, unadopted: type[OldTokens]) -> None:
        assert get("/orders/", "new_4f9c2b7d1e8a6035").status_code == 401
        assert rows() == [("refused", "unknown", "", 401)]

    @pytest.mark.parametrize(
        ("record", "reason"),
        [(LegacyKey(name="A", is_active=False), "inactive"),
         (LegacyKey(name="A", is_active=0), "inactive"),  # type: ignore[arg-type]
         (LegacyKey(name="A", is_active=None), "inactive"),  # type: ignore[arg-type]
         (LegacyKey(name="A", expires_at=datetime(2020, 1, 1, tzinfo=UTC)), "expired"),
         (LegacyKey(name="A", expires_at=datetime(2020, 1, 1)), "expired"),  # noqa: DTZ001
         (LegacyKey(name="A", expires_at=datetime.min), "expired"),  # noqa: DTZ901
         (LegacyKey(name="A", allowed_ips=["10.0.0.0/8"]), "address"),
         (LegacyKey(name="A", allowed_ips=["nonsense"]), "address"),
         (LegacyKey(name="A", owner="auth.user:7"), "owner")],
    )  # fmt: skip
    @pytest.mark.parametrize("use_tz", [True, False])
    def test_that_is_refused_there_is_refused_here_and_never_adopted(
        self, old: type[OldTokens], settings: Settings, record: LegacyKey, reason: str, use_tz: bool
    ) -> None:
        settings.USE_TZ = use_tz
        old.known = record
        assert get("/orders/", TOKEN).status_code == 401
        assert rows() == [("refused", reason, "A", 401)]
        assert not APIKey.objects.exists()

    @pytest.mark.parametrize("use_tz", [True, False])
    @pytest.mark.parametrize(
        "end",
        [datetime(2099, 1, 1), datetime(2099, 1, 1, tzinfo=UTC), datetime.max, datetime.max.replace(tzinfo=UTC)],  # noqa: DTZ001, DTZ901
    )
    def test_keeps_its_moments_whatever_time_zones_they_have(
        self, old: type[OldTokens], settings: Settings, use_tz: bool, end: datetime
    ) -> None:
        settings.USE_TZ, settings.TIME_ZONE = use_tz, "Asia/Tokyo"
        old.known = LegacyKey(name="A", expires_at=end, created_at=datetime(2019, 5, 6, 7, tzinfo=UTC))
        assert get("/orders/", TOKEN).status_code == 200
        key = APIKey.objects.get()
        assert instant(key.created_at) == datetime(2019, 5, 6, 7, tzinfo=UTC)
        assert key.expires_at is not None
        assert instant(key.expires_at).year in (2098, 2099, 9999)

    @pytest.mark.parametrize(
        ("name", "shown"),
        [("Billing\n", "Billing"), ("a\x00b", "a\\x00b"), ("x" * 200, "x" * 100), (7, "7"),
         ("", "old_4f9c2b7d"), (None, "old_4f9c2b7d"), (TOKEN, "old_4f9c2b7d"), (f"key {TOKEN}", "key ********"),
         ("env:WEBHOOK_API_KEY", "key:env:WEBHOOK_API_KEY"), ("env:" + "x" * 96, "key:env:" + "x" * 92)],
    )  # fmt: skip
    def test_has_a_name_that_a_key_may_have(self, old: type[OldTokens], name: Any, shown: str) -> None:
        old.known = LegacyKey(name=name)
        assert get("/orders/", TOKEN).status_code == 200
        assert APIKey.objects.get().name == shown
        assert TOKEN not in texts_of_everything()

    @pytest.mark.parametrize("ref", [TOKEN, f"tokens/{TOKEN}"])
    def test_with_the_token_for_a_reference_leaves_its_digest(self, old: type[OldTokens], ref: str) -> None:
        old.known = LegacyKey(ref=ref, name="A")
        assert get("/orders/", TOKEN).json()["key"] == APIKey.objects.get().pk
        assert TOKEN not in texts_of_everything()

    @pytest.mark.parametrize("ref", ["", None])
    def test_without_a_reference_is_known_by_its_digest(
        self, old: type[OldTokens], monkeypatch: pytest.MonkeyPatch, ref: Any
    ) -> None:
        monkeypatch.setattr(old, "look_up", lambda self, token: LegacyKey(ref=ref, name=token[-4:]))
        tokens = (TOKEN, TOKEN[:-1] + "a")
        assert [get("/orders/", token).status_code for token in tokens] == [200, 200]
        assert KeyOrigin.objects.count() == 2
        APIKey.objects.all().delete()
        assert [get("/orders/", token).status_code for token in tokens] == [401, 401]

    def test_shows_no_more_of_the_key_than_a_key_of_ours(self, unadopted: type[OldTokens]) -> None:
        unadopted.known = LegacyKey(name="A", prefix=TOKEN)
        get("/orders/", TOKEN)
        assert [*AuditEvent.objects.values_list("key_prefix", flat=True)] == ["old_4f9c2b7d"]

    def test_of_an_owner_is_accepted_as_long_as_the_owner_is(self, old: type[OldTokens], settings: Settings) -> None:
        settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User"]}
        user = User.objects.create(username="anna")
        for old.adopts in (False, True):
            for owner in (user, f"auth.user:{user.pk}", f"auth.User:{user.pk}"):
                APIKey.objects.all().delete()
                KeyOrigin.objects.all().delete()
                old.known = LegacyKey(name="A", owner=owner)
                assert get("/orders/", TOKEN).status_code == 200
        assert APIKey.objects.get().owner == user
        APIKey.objects.all().delete()
        KeyOrigin.objects.all().delete()
        User.objects.update(is_active=False)
        assert get("/orders/", TOKEN).status_code == 401
        assert not APIKey.objects.exists()

    @pytest.mark.parametrize("listed", [[], ["auth.Group"]])
    def test_of_an_owner_who_can_own_no_keys_is_refused(
        self, old: type[OldTokens], settings: Settings, listed: list[str]
    ) -> None:
        settings.KEYS = {**settings.KEYS, "OWNERS": listed}
        for owner in (User.objects.create(username="anna"), User(username="unsaved"), "nobody", 7):
            old.known = LegacyKey(name="A", owner=owner)  # type: ignore[arg-type]
            assert get("/orders/", TOKEN).status_code == 401
        assert {reason for _, reason, _, _ in rows()} == {"owner"}


class TestAMistake:
    @pytest.mark.parametrize(
        "returned",
        [True, False, "", "tokens", 7, [], object(), {"name": "A"},
         LegacyKey(name="A", scopes="users:read"), LegacyKey(name="A", scopes=[7]),  # type: ignore[list-item]
         LegacyKey(name="A", scopes=7),  # type: ignore[arg-type]
         LegacyKey(name="A", allowed_ips="10.0.0.0/8"), LegacyKey(name="A", is_active="false"),  # type: ignore[arg-type]
         LegacyKey(name="A", expires_at=date(2099, 1, 1)),  # type: ignore[arg-type]
         LegacyKey(name="A", expires_at="2099-01-01"),  # type: ignore[arg-type]
         LegacyKey(name="A", created_at=1558000000)],  # type: ignore[arg-type]
    )  # fmt: skip
    def test_in_what_is_returned_is_no_answer(
        self, old: type[OldTokens], caplog: pytest.LogCaptureFixture, returned: Any
    ) -> None:
        old.known = returned
        answer = get("/orders/", TOKEN)
        assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)
        told = errors(caplog)[0]
        assert told.startswith("The keys of tests.keyrings.old_tokens.OldTokens cannot be checked: ")
        assert TOKEN not in caplog.text
        assert not APIKey.objects.exists()

    @pytest.mark.parametrize("error", [ValueError, ConnectionError, KeyError, RecursionError, User.DoesNotExist])
    def test_that_raises_is_no_refusal_and_its_text_is_not_logged(
        self, old: type[OldTokens], caplog: pytest.LogCaptureFixture, error: type[Exception]
    ) -> None:
        def fail() -> LegacyKey:
            raise error(f"https://tokens.example/?token={TOKEN}")

        old.known = fail
        assert get("/orders/", TOKEN).status_code == 503
        told = errors(caplog)[0]
        assert f"look_up() raised {error.__module__}.{error.__qualname__}".replace("builtins.", "") in told
        assert "old_tokens.py" in told
        assert TOKEN not in caplog.text
        assert "example" not in caplog.text

    def test_another_system_is_asked_once_for_each_request(self, old: type[OldTokens]) -> None:
        old.known = 7
        assert get("/orders/", TOKEN).status_code == 503
        assert old.asked == 1

    def test_an_asynchronous_look_up_is_refused(
        self, old: type[OldTokens], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def look_up(self: OldTokens, token: str) -> LegacyKey:
            await asyncio.sleep(0)
            return LegacyKey(name="A")

        monkeypatch.setattr(old, "look_up", look_up)
        assert get("/orders/", TOKEN).status_code == 503
        assert "look_up() is asynchronous, and nobody awaits it." in errors(caplog)[0]

    def test_a_keyring_without_a_source_adopts_nothing(self, old: type[OldTokens]) -> None:
        old.source = ""
        assert get("/orders/", TOKEN).status_code == 200
        assert rows() == [("used", "", "Billing", 200)]
        assert not APIKey.objects.exists()

    @pytest.mark.parametrize(
        "record",
        [
            LegacyKey(name="A", scopes=["users:read", "nobody:registered"]),
            LegacyKey(name="A", scopes=["*:*", "no scope"]),
        ],
    )
    def test_in_the_scopes_lets_the_record_as_it_is_and_is_told_once(
        self, old: type[OldTokens], caplog: pytest.LogCaptureFixture, record: LegacyKey
    ) -> None:
        old.known = record
        assert [get("/orders/", TOKEN).status_code for _ in range(3)] == [200] * 3
        assert rows() == [("used", "", "A", 200)] * 3
        (told,) = errors(caplog)
        assert told.startswith("Keys of tokens.token are accepted and not adopted; the first of them is A. Validation")
        assert "scopes" in told
        assert not APIKey.objects.exists()
        assert not KeyOrigin.objects.exists()

    def test_no_scope_is_added_and_none_is_taken_away(self, old: type[OldTokens], settings: Settings) -> None:
        settings.KEYS = {**settings.KEYS, "DEFAULT_SCOPES": ["users:read"]}
        for number, scopes in enumerate(([], {"employees:read"}, ["*"], None)):
            old.known = LegacyKey(ref=number or "zero", name="A", scopes=scopes)  # type: ignore[arg-type]
            assert get("/orders/", f"{TOKEN}{number}").status_code == 200
            assert APIKey.objects.latest("pk").scopes == [*(scopes or [])]


class TestWhatAViewSees:
    def test_the_record_is_a_key_for_whatever_asks(self, unadopted: type[OldTokens]) -> None:
        unadopted.known = LegacyKey(name="Billing", scopes=["users:read"])
        heard: list[Any] = []
        receiver = heard.append

        def hear(sender: Any, key: Any, row: Any, **kwargs: Any) -> None:
            receiver((sender, key.name, row["key_name"]))

        signals.key_used.connect(hear)
        try:
            assert get("/orders/", TOKEN).status_code == 200
        finally:
            signals.key_used.disconnect(hear)
        assert heard == [(LegacyKey, "Billing", "Billing")]
        holder = unadopted().find(TOKEN)
        request: Any = type("Request", (), {"auth": holder})
        assert holder_of(request) is holder
        assert APIKeyRateThrottle().get_cache_key(request, None) is None
        assert isinstance(holder, LegacyKey)
        assert holder.has_scope("users:read")
        assert not holder.has_scope("users:write")
        assert TOKEN not in repr(holder)

    def test_no_service_is_taken_for_another(self) -> None:
        key = APIKey.objects.create(name="9")

        class Account:
            name, prefix, owner_ref, scopes = str(key.pk), "", "", ()

        holders: list[Any] = [
            key,
            APIKey.objects.create(name=str(key.pk)),
            Account(),
            EnvironmentKey(str(key.pk)),
            EnvironmentKey("env:A"),
            LegacyKey(ref=key.pk, name="9", source="tokens.token"),
            LegacyKey(ref=key.pk, name="9", source="others.token"),
            LegacyKey(ref="a b", name="9", source="tokens.token"),
        ]
        pks = [ServicePrincipal(holder).pk for holder in holders]
        # The key of a variable and an account of the same name are told apart by nothing but their keyring.
        assert len({*pks}) == len(pks) - 1
        assert pks[0] == f"key:{key.pk}"
        assert pks[-1] == "legacy:tokens.token:a%20b"

    def test_guards_with_the_same_keyring_are_one(self, old: type[OldTokens]) -> None:
        class Holding(LegacyKeyring):
            def __init__(self, table: str) -> None:
                self.table = table

        assert Guard(keyrings=(old(),)) == Guard(keyrings=(old(),))
        assert Guard(keyrings=(Holding("a"),)) == Guard(keyrings=(Holding("a"),))
        assert Guard(keyrings=(Holding("a"),)) != Guard(keyrings=(Holding("b"),))
        assert hash(old()) == hash(old())

    def test_an_expiry_is_asked_for_at_each_use(self, unadopted: type[OldTokens]) -> None:
        unadopted.known = LegacyKey(name="A", expires_at=timezone.now() + timedelta(days=1))
        assert get("/orders/", TOKEN).status_code == 200
        unadopted.known = LegacyKey(name="A", expires_at=timezone.now() - timedelta(seconds=1))
        assert get("/orders/", TOKEN).status_code == 401
