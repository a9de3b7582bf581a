"""`keys_explain`: why a key is refused, or what it may do, without a trace and without the key."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings

from keys import actor
from keys.decorators import api_key_required
from keys.keyrings import LegacyKey
from keys.models import APIKey, AuditEvent
from keys.verification import Guard
from tests.keyrings.conftest import old as old
from tests.keyrings.old_tokens import TOKEN, OldTokens
from tests.support.callers import get
from tests.support.commands import Run, Terminal, finish, manage, run, serve
from tests.support.keys import change, make_key

SHARED = "shared-secret-of-five-apis-0123456789"


def explain(token: str, *arguments: str) -> Run:
    return run("keys_explain", *arguments, stdin=token + "\n")


@pytest.mark.django_db
def test_a_good_key_is_told_with_what_it_may_do() -> None:
    end = timezone.now() + timedelta(days=20, minutes=1)
    key = make_key(scopes=["users:read"], allowed_ips=["10.0.0.0/8"], rate="100/min", expires_at=end)
    told = explain(key.key)
    assert told.status == 0
    assert told.out == (
        f"Accepted: TTS-Backend ({key.prefix}) holds the scopes users:read, only from 10.0.0.0/8, at most 100/min,"
        f" until {end:%Y-%m-%d %H:%M} UTC (2 weeks, 6 days from now).\n"
    )


@pytest.mark.django_db
def test_a_replaced_key_is_told_with_its_successor() -> None:
    key = make_key(scopes=[])
    successor = key.rotate()
    told = explain(key.key)
    assert told.status == 0
    assert "holds no scopes" in told.out
    assert f"has been replaced by TTS-Backend ({successor.prefix})." in told.out


@pytest.mark.django_db
def test_an_unknown_key_is_refused() -> None:
    told = explain("0" * 40)
    assert told.status == 1
    assert told.out.startswith("Refused: no key in the database matches, nor is it the value of ")
    assert "WEBHOOK_API_KEY" in told.out


@pytest.mark.django_db
@pytest.mark.parametrize("token", ["x" * 129, "with\x00nul", "ключ", "two\twords"])
def test_what_cannot_be_a_key_is_refused(token: str) -> None:
    told = explain(token)
    assert (told.status, told.out.split(":")[0]) == (1, "Refused")
    assert "cannot be a key" in told.out


@pytest.mark.django_db
def test_a_deactivated_key_is_refused_and_by_whom_is_told() -> None:
    key = make_key()
    with actor.acting_as("user: alice"):
        key.deactivate()
    told = explain(key.key)
    assert told.status == 1
    assert told.out == f"Refused: TTS-Backend ({key.prefix}) was deactivated just now (user: alice).\n"


@pytest.mark.django_db
def test_a_deactivation_by_nobody_that_is_known_names_nobody() -> None:
    key = make_key()
    key.deactivate()
    assert explain(key.key).out == f"Refused: TTS-Backend ({key.prefix}) was deactivated just now.\n"


@pytest.mark.django_db
def test_a_scope_that_the_key_has_lost_is_told_with_who_took_it() -> None:
    key = make_key(scopes=["users:read"])
    with actor.acting_as("user: alice"):
        change(key, scopes=["employees:read"])
    change(key, scopes=[])
    told = explain(key.key, "--scope", "users:read").out
    assert told.endswith("lacks the scope users:read; it holds none, and held it until just now (user: alice).\n")
    told = explain(key.key, "--scope", "tracking:write").out
    assert told.endswith("lacks the scope tracking:write; it holds none.\n")


@pytest.mark.django_db
def test_a_key_that_was_made_inactive_is_refused() -> None:
    key = make_key(is_active=False)
    assert explain(key.key).out == f"Refused: TTS-Backend ({key.prefix}) is inactive.\n"


@pytest.mark.django_db
def test_an_expired_key_is_refused_with_its_end_and_its_successor() -> None:
    key = make_key()
    successor = key.rotate(timedelta(0))
    APIKey._base_manager.filter(pk=key.pk).update(expires_at=datetime(2024, 1, 31, 12, tzinfo=UTC))
    told = explain(key.key)
    assert told.status == 1
    assert "ago, on 2024-01-31 12:00 UTC; " in told.out
    assert told.out.endswith(f"TTS-Backend ({successor.prefix}) has replaced it.\n")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("address", "status"), [("10.1.2.3", 0), ("::ffff:10.1.2.3", 0), ("192.0.2.1", 1), ("2001:db8::1", 1)]
)
def test_an_address_is_held_against_the_networks(address: str, status: int) -> None:
    key = make_key(allowed_ips=["10.0.0.0/8"])
    told = explain(key.key, "--address", address)
    assert told.status == status
    assert ("may not be used from" in told.out) == (status == 1)
    assert "only from 10.0.0.0/8" in told.out


@pytest.mark.django_db
@pytest.mark.parametrize(("scopes", "status"), [(["users:read"], 0), (["users:read", "employees:read"], 1)])
def test_a_scope_is_held_against_those_of_the_key(scopes: list[str], status: int) -> None:
    key = make_key(scopes=["users:*"])
    told = explain(key.key, *(f"--scope={scope}" for scope in scopes))
    assert told.status == status
    assert ("lacks the scope employees:read; it holds users:*." in told.out) == (status == 1)


@pytest.mark.django_db
def test_a_project_prefix_makes_no_difference(settings: Settings) -> None:
    settings.KEYS = {"PREFIX": "auth_live_"}
    key = make_key()
    assert key.key.startswith("auth_live_")
    assert explain(key.key).status == explain(key.key.removeprefix("auth_live_")).status == 0


@pytest.mark.django_db
def test_a_key_from_the_environment_is_told_with_what_it_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_API_KEY", f"another-secret, {SHARED}")
    told = explain(SHARED)
    assert told.status == 0
    assert told.out.startswith("Accepted: it is the value of WEBHOOK_API_KEY and opens ")
    assert "/api/tracking-ingest/batch" in told.out
    assert "/api/db/records" in told.out
    assert "/_internal/jobs" not in told.out


@pytest.mark.django_db
def test_the_end_of_a_transition_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_API_KEY", SHARED)
    monkeypatch.setenv("TRACKING_INGEST_ALLOW_SHARED_KEY", "false")
    told = explain(SHARED)
    assert told.status == 0
    assert "/api/tracking-ingest" not in told.out
    assert "/api/db/records" in told.out


@pytest.mark.django_db
@pytest.mark.parametrize(("scope", "status"), [("tracking:write", 0), ("users:read", 1)])
def test_the_scopes_of_a_key_from_the_environment_count(
    scope: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKING_INGEST_API_KEY", SHARED)
    told = explain(SHARED, "--scope", scope)
    assert told.status == status
    assert "TRACKING_INGEST_API_KEY" in told.out


@pytest.mark.django_db
def test_nothing_is_written_and_the_key_is_never_repeated() -> None:
    key = make_key()
    before = AuditEvent.objects.count()
    for token in (key.key, "f" * 40):
        told = explain(token)
        assert token not in told.out + told.err
    assert AuditEvent.objects.count() == before


@pytest.mark.django_db
@pytest.mark.parametrize(("arguments", "stdin"), [([], ""), ([], " \n"), (["--address", "nowhere"], "f" * 40)])
def test_where_there_is_nothing_to_answer_the_status_is_2(arguments: list[str], stdin: str) -> None:
    told = run("keys_explain", *arguments, stdin=stdin)
    assert (told.status, told.out) == (2, "")
    assert told.err


@pytest.mark.matrix
@pytest.mark.django_db(transaction=True)
def test_a_key_can_be_piped_in() -> None:
    token = make_key().key
    told = manage("keys_explain", stdin=token)
    assert (told.status, told.err) == (0, "")
    assert told.out.startswith("Accepted: TTS-Backend")


@pytest.mark.matrix
@pytest.mark.django_db(transaction=True)
def test_on_a_terminal_the_key_is_asked_for_and_not_shown() -> None:
    token = make_key().key
    with Terminal() as terminal:
        process = terminal.start("keys_explain", streams=["stdin", "stderr"])
        terminal.wait_for("Key: ")
        terminal.type(token + "\n")
        told = finish(process)
        assert (told.status, told.out.partition(" (")[0]) == (0, "Accepted: TTS-Backend")
        assert token not in terminal.read_to_end()


class TestOfAnotherSystem:
    """An old key is explained as its guard would see it, and does not become ours by that."""

    @pytest.fixture(autouse=True)
    def ready(self, old: type[OldTokens], db: None) -> None:
        """`/orders/` asks the old tokens."""

    def test_that_is_good(self, old: type[OldTokens]) -> None:
        old.known = LegacyKey(7, "Billing", ["users:read"])
        told = explain(TOKEN)
        assert (told.status, told.out) == (
            0,
            "Accepted: Billing of tests.keyrings.old_tokens.OldTokens holds the scopes users:read, opens /orders/, and"
            " becomes a key here at its next use.\n",
        )
        assert not APIKey.objects.exists()
        assert not AuditEvent.objects.exists()
        old.adopts = False
        assert "becomes" not in explain(TOKEN).out

    @pytest.mark.parametrize(
        ("record", "arguments", "why"),
        [(LegacyKey(7, "A", is_active=False), [], "is refused: inactive"),
         (LegacyKey(7, "A", expires_at=datetime(2020, 1, 1, tzinfo=UTC)), [], "is refused: expired"),
         (LegacyKey(7, "A", allowed_ips=["10.0.0.0/8"]), ["--address", "192.0.2.1"], "is refused: address not allowed"),
         (LegacyKey(7, "A"), ["--scope", "users:read"], "lacks the scope users:read; it holds no scopes"),
         (LegacyKey(7, "A", owner="auth.user:7"), [], "belongs to auth.user:7, of a model that")],
    )  # fmt: skip
    def test_that_is_refused(self, old: type[OldTokens], record: LegacyKey, arguments: list[str], why: str) -> None:
        old.known = record
        told = explain(TOKEN, *arguments)
        assert told.status == 1
        assert told.out.startswith(f"Refused: A of tests.keyrings.old_tokens.OldTokens {why}")

    def test_whose_networks_are_not_asked_for(self, old: type[OldTokens]) -> None:
        old.known = LegacyKey(7, "A", allowed_ips=["10.0.0.0/8"])
        assert explain(TOKEN).status == 0

    def test_that_has_come_and_was_deleted(self, old: type[OldTokens]) -> None:
        assert get("/orders/", TOKEN).status_code == 200
        assert explain(TOKEN).out.startswith("Accepted: Billing (")
        APIKey.objects.all().delete()
        told = explain(TOKEN)
        assert (told.status, "does not come back" in told.out) == (1, True)

    def test_that_cannot_be_asked(self, old: type[OldTokens]) -> None:
        old.known = 7
        told = explain(TOKEN)
        assert (told.status, told.out) == (2, "")
        assert "cannot be checked: look_up() cannot be understood." in told.err

    def test_of_a_keyring_that_is_a_projects_own(self, settings: Settings) -> None:
        class Elsewhere:
            def is_configured(self) -> bool:
                return True

            def find(self, token: str) -> LegacyKey | None:
                if token != TOKEN:
                    raise ConnectionError(token)
                return LegacyKey(7, "Account", ["users:read"])

        serve(settings, api_key_required(guard=Guard(keyrings=(Elsewhere(),)))(print))
        assert "Account of tests.commands.test_keys_explain." in explain(TOKEN).out
        told = explain("0" * 40)
        assert (told.status, "0" * 40 in told.err, "cannot be asked: ConnectionError." in told.err) == (2, False, True)
