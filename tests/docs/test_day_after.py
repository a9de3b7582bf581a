"""The chapter on the way back and the day after: every command of it, on a project that has moved from authtoken."""

import re
import shlex
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import path
from django.utils import timezone
from pytest_django import Settings
from rest_framework.authtoken.models import Token

from keys.authentication import KeyringAuthentication
from keys.keyrings import DatabaseKeyring, LegacyKey, LegacyKeyring
from keys.models import APIKey, AuditEvent, KeyOrigin
from keys.models.key_origin import ref_of, source_of
from tests.docs.pages import blocks, section
from tests.support.callers import opens
from tests.support.commands import Run, run
from tests.support.other_packages import New, authtoken, urlpatterns
from tests.support.tables import execute, migrate

PAGE = "docs/day-after.md"
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def token() -> str:
    """The token of a project that has moved: its client's key is ours, and the old table as it was."""
    token = authtoken().removeprefix("Token ")
    assert run("keys_import", "authtoken").status == 0
    KeyOrigin.objects.get_or_create(
        source=source_of(Token),
        ref=ref_of(token, token),
        defaults={"api_key": APIKey.objects.get(), "at": timezone.now()},
    )
    return token


@pytest.fixture
def put_back() -> Iterator[None]:
    """Bring the tables of both systems back."""
    yield
    migrate()
    call_command("migrate", "authtoken", verbosity=0)


def lines(heading: str) -> list[str]:
    return [line for block in blocks(PAGE, heading) for line in block.text.splitlines()]


def do(line: str, key: APIKey | None = None) -> Run:
    """Run a line of the chapter; `key` is the one whose id it names."""
    python, manage, *arguments = shlex.split(line)
    assert (python, manage) == ("python", "manage.py")
    return run(*(str(key.pk) if key is not None and part == "17" else part for part in arguments))


def is_good_there(token: str) -> bool:
    headers = {"Authorization": f"Token {token}"}
    return bool(Client(headers=headers).get("/authtoken/").status_code == 200)


@pytest.mark.urls("tests.support.other_packages")
def test_on_the_same_day_the_old_system_is_as_it_was(token: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = execute("SELECT * FROM authtoken_token")
    assert opens(token, "/new/")
    key = APIKey.objects.get()
    key.rotate()
    key.deactivate()
    APIKey.objects.create(name="made here")
    capsys.readouterr()

    unknown_there, ended_here = lines("## Back on the same day")
    assert do(unknown_there).status == do(ended_here).status == 0

    assert not opens(token, "/new/")
    assert execute("SELECT * FROM authtoken_token") == before
    assert is_good_there(token)
    successor = APIKey.objects.get(predecessor=key)
    printed = capsys.readouterr().out.splitlines()
    assert sorted(printed[:2]) == sorted([str(successor), str(APIKey.objects.get(name="made here"))])
    assert printed[2:] == [str(key)]


class Tokens(LegacyKeyring):
    source = "authtoken.Token"
    adopts = True

    def look_up(self, token: str) -> LegacyKey | None:
        row = Token.objects.filter(key=token).first()
        return None if row is None else LegacyKey(row.pk, row.user.get_username(), scopes=["users:read"])


class Adopting(KeyringAuthentication):
    keyword = "Token"
    keyrings = (DatabaseKeyring(), Tokens())


@pytest.mark.urls("tests.support.other_packages")
def test_an_adopted_key_is_good_in_the_old_system_as_before(settings: Settings) -> None:
    token = authtoken().removeprefix("Token ")
    before = execute("SELECT * FROM authtoken_token")
    settings.ROOT_URLCONF = (*urlpatterns, path("adopting/", New.as_view(authentication_classes=[Adopting])))
    headers = {"Authorization": f"Token {token}"}
    assert [Client(headers=headers).get("/adopting/").status_code for _ in range(2)] == [200, 200]
    key = APIKey.objects.get()
    key.rotate()
    key.deactivate()
    assert Client(headers=headers).get("/adopting/").status_code == 401
    assert execute("SELECT * FROM authtoken_token") == before
    assert is_good_there(token)


@pytest.mark.urls("tests.support.other_packages")
def test_a_month_beside_each_other(token: str, put_back: None, capsys: pytest.CaptureFixture[str]) -> None:
    key, stranger = APIKey.objects.get(), "f" * 40
    assert opens(token, "/new/")
    assert not opens(stranger, "/new/")
    late = Token.objects.create(user=User.objects.create(username="late"))
    again, usage, strangers, unused, legacy, rotate, usage_of_one, end = lines("## A month beside each other")

    assert do(again).status == 0
    assert opens(late.key, "/new/")

    assert "(unknown key)" in do(usage).out
    capsys.readouterr()
    assert do(strangers).status == 0
    assert capsys.readouterr().out.startswith("('127.0.0.1', 1, ")
    assert do(unused).status == 0
    assert do(legacy).status == 2  # no view asks another system

    rotated = do(rotate)
    assert rotated.status == 0
    assert opens(rotated.out.strip(), "/new/")
    assert "alice" in do(usage_of_one).out
    # Its caller has just used the old one.
    assert do(end, key).status == 1
    assert opens(token, "/new/")
    AuditEvent.objects.filter(api_key=key.pk, event="used").update(at=timezone.now() - timedelta(days=9))
    assert do(end, key).status == 0
    assert not opens(token, "/new/")

    still_old, gone = lines("## The day on which the old one goes")
    capsys.readouterr()
    assert do(still_old).status == 0
    assert "alice" not in capsys.readouterr().out
    assert do(gone).status == 0
    assert "authtoken_token" not in connection.introspection.table_names()
    assert opens(late.key, "/new/")


def test_the_log_of_the_admin_shows_who_is_unknown(admin_client: Client) -> None:
    assert not opens("f" * 40)
    assert opens(APIKey.objects.create(name="known").key)
    text = " ".join(section(PAGE, "## A month beside each other").prose)
    (address,) = re.findall(r"`(/admin/.+?)`", text)
    page = admin_client.get(address)
    assert page.status_code == 200
    assert [event.reason for event in page.context["cl"].result_list] == ["unknown"]


@pytest.mark.matrix
def test_taking_the_app_out(token: str, put_back: None) -> None:
    plan, zero, types = lines("## Back with the tables")
    assert "Every key ends for good" in do(plan).out
    assert opens(token)
    assert do(zero).status == 0
    assert "keys_apikey" not in connection.introspection.table_names()
    assert do(types).status == 0
    assert Token.objects.get().key == token
