"""`keys_rotate` and `keys_deactivate`, and how a key is named on the command line."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from keys.models import APIKey, AuditEvent
from tests.support.commands import Terminal, finish, manage, run, start
from tests.support.keys import make_key
from tests.support.log import record


@pytest.mark.matrix
@pytest.mark.django_db(transaction=True)
def test_the_secret_of_the_successor_alone_goes_to_standard_output(client: Client) -> None:
    key = make_key()
    rotated = manage("keys_rotate", key.prefix, "--grace", "2d")
    assert rotated.status == 0
    assert re.fullmatch(r"[0-9a-f]{40}\n", rotated.out)
    assert rotated.out.strip() not in rotated.err
    for token in (key.key, rotated.out.strip()):
        assert client.get("/guarded/", headers={"X-API-Key": token}).status_code == 200
    key.refresh_from_db()
    assert key.expires_at is not None
    assert abs(key.expires_at - timezone.now() - timedelta(days=2)) < timedelta(minutes=1)
    assert f"accepted until {key.expires_at:%Y-%m-%d %H:%M} UTC" in rotated.err


@pytest.mark.django_db
def test_without_a_grace_it_is_a_week() -> None:
    key = make_key()
    run("keys_rotate", str(key.pk))
    key.refresh_from_db()
    assert key.expires_at is not None
    assert abs(key.expires_at - timezone.now() - timedelta(days=7)) < timedelta(minutes=1)


@pytest.mark.django_db
def test_grace_0_ends_the_old_key_at_once(client: Client) -> None:
    key = make_key()
    rotated = run("keys_rotate", key.name, "--grace", "0")
    assert "refused from now on" in rotated.err
    assert client.get("/guarded/", headers={"X-API-Key": key.key}).status_code == 401
    assert client.get("/guarded/", headers={"X-API-Key": rotated.out.strip()}).status_code == 200


@pytest.mark.django_db
def test_a_second_rotation_says_so_and_fails_without_a_secret() -> None:
    key = make_key()
    successor = key.rotate()
    again = run("keys_rotate", key.prefix)
    assert (again.status, again.out) == (1, "")
    assert f"TTS-Backend ({key.prefix}) was already rotated" in again.err
    assert successor.prefix in again.err
    assert APIKey.objects.count() == 2


@pytest.mark.matrix
@pytest.mark.django_db(transaction=True)
def test_two_rotations_at_once_give_one_secret() -> None:
    key = make_key()
    processes = [start("keys_rotate", key.prefix), start("keys_rotate", key.prefix)]
    ends = sorted((finish(process) for process in processes), key=lambda end: end.status)
    assert [end.status for end in ends] == [0, 1]
    assert APIKey.objects.count() == 2
    assert APIKey.objects.filter(key=ends[0].out.strip()).exists()
    assert ends[1].out == ""


@pytest.mark.django_db
@pytest.mark.parametrize(
    "fields", [{"is_active": False}, {"expires_at": timezone.now() - timedelta(days=1)}], ids=["inactive", "expired"]
)
def test_a_key_that_is_over_is_not_rotated(fields: dict[str, Any]) -> None:
    key = make_key(**fields)
    rotated = run("keys_rotate", key.prefix)
    assert (rotated.status, rotated.out) == (1, "")
    assert re.search(r"is (inactive|expired): make a new key", rotated.err)
    assert APIKey.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("grace", ["7", "a week", "-1d", "999999999w"])
def test_a_grace_that_is_none_rotates_nothing(grace: str) -> None:
    key = make_key()
    rotated = run("keys_rotate", key.prefix, f"--grace={grace}")
    assert (rotated.status, rotated.out) == (1, "")
    assert APIKey.objects.count() == 1


@pytest.mark.django_db
def test_a_key_is_refused_once_it_is_deactivated(client: Client) -> None:
    key = make_key()
    assert client.get("/guarded/", headers={"X-API-Key": key.key}, REMOTE_ADDR="10.0.4.7").status_code == 200
    ended = run("keys_deactivate", key.name)
    assert (ended.status, ended.out) == (0, "")
    report, result = ended.err.splitlines()
    assert report.startswith(f"TTS-Backend ({key.prefix}): Not replaced by a successor; last used ")
    assert report.endswith(" from 10.0.4.7.")
    assert result == f"TTS-Backend ({key.prefix}) is refused from now on."
    assert client.get("/guarded/", headers={"X-API-Key": key.key}).status_code == 401
    event = AuditEvent.objects.get(event="deactivated")
    assert event.actor.startswith("command line: ")


@pytest.mark.django_db
def test_deactivating_twice_is_no_mistake() -> None:
    key = make_key(is_active=False)
    ended = run("keys_deactivate", key.prefix)
    assert (ended.status, ended.err) == (0, f"TTS-Backend ({key.prefix}) is inactive already.\n")


@pytest.mark.django_db
@pytest.mark.parametrize(("is_used", "status"), [(False, 0), (True, 1)])
def test_a_key_can_be_deactivated_only_if_that_is_safe(is_used: bool, status: int) -> None:
    key = make_key()
    key.rotate()
    if is_used:
        record(key, at=timezone.now(), address="10.0.4.7")
    ended = run("keys_deactivate", key.prefix, "--if-safe")
    assert ended.status == status
    assert ("not yet safe to deactivate" in ended.err) == is_used
    key.refresh_from_db()
    assert key.is_active == is_used


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("options", "answer", "is_ended"),
    [([], "y", True), ([], "", False), ([], "no", False), (["--no-input"], None, True), (["--noinput"], None, True)],
)
def test_on_a_terminal_it_asks_unless_told_not_to(options: list[str], answer: str | None, is_ended: bool) -> None:
    key = make_key()
    with Terminal() as terminal, terminal.as_stdin() as stdin:
        if answer is not None:
            terminal.type(answer + "\n")
        ended = run("keys_deactivate", key.prefix, *options, stdin=stdin)
    assert (ended.status, ended.out) == (0 if is_ended else 1, "")
    assert ("Deactivate it? [y/N]" in ended.err) == (answer is not None)
    assert "Not replaced by a successor; no use on record." in ended.err
    key.refresh_from_db()
    assert key.is_active != is_ended


@pytest.mark.django_db
@pytest.mark.parametrize("command", ["keys_rotate", "keys_deactivate"])
def test_a_name_that_two_keys_have_is_answered_with_both(command: str) -> None:
    one, two = make_key(), make_key()
    named = run(command, "TTS-Backend")
    assert (named.status, named.out) == (1, "")
    assert "That names 2 keys" in named.err
    for key in (one, two):
        assert f"{key.pk} (TTS-Backend ({key.prefix}), active)" in named.err
    assert APIKey.objects.filter(is_active=True, replaced_by=None).count() == 2


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["nobody", "0", "99999999999999999999", "tts-backend", "TTS", "", "%", "\udcff"])
def test_a_key_that_is_not_there_is_not_guessed(text: str) -> None:
    make_key()
    named = run("keys_rotate", text)
    assert (named.status, named.out) == (1, "")
    assert APIKey.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("command", [("keys_rotate",), ("keys_deactivate",), ("keys_usage", "--key")])
@pytest.mark.parametrize("before", ["", "auth_live_"])
def test_a_secret_as_an_argument_is_refused_and_not_repeated(command: tuple[str, ...], before: str) -> None:
    key = make_key()
    named = run(*command, before + key.key)
    assert (named.status, named.out) == (1, "")
    assert "keys_explain on standard input" in named.err
    assert key.key not in named.err
    key.refresh_from_db()
    assert (key.is_active, key.replaced_by) == (True, None)


@pytest.mark.django_db
def test_a_secret_that_was_typed_by_hand_is_refused_too() -> None:
    make_key(key="correct-horse")
    named = run("keys_rotate", "correct-horse")
    assert named.status == 1
    assert "keys_explain on standard input" in named.err
    assert "correct-horse" not in named.err
