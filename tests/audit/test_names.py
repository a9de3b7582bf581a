"""A name stands in every row of the log in one form, on every database, whichever statement wrote the row."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection
from django.test import Client

from keys.audit import statements
from keys.audit.sql import needs_no_escaping
from keys.models import APIKey, AuditEvent, fields
from keys.redaction import printable
from tests.support.commands import run
from tests.support.keys import make_key, named_before
from tests.support.log import row
from tests.support.runs import own

pytestmark = pytest.mark.django_db

postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="Others write no use with the look-up.")

NAMES = [
    "TTS", "Übersetzung", "翻訳サービス", "山田\u3000太郎", "a\u0301", "a\xa0b", "a\\xadb", "%s '", "Grüße 😀",
    "👩\u200d👧", "क्\u200dष", "क\u200cख", "❤\ufe0f", "葛\U000e0100",
    "soft\u00adhyphen", "fill\u3164er", "turned\u202e", "isolated\u2066", "mark\ufeff", "line\u2028", "tag\U000e0041",
    "new \U0001fae9", "not yet \U0001fadd", "private \ue000", "unassigned \u0378", "none \ufffe\U0010ffff",
    "old\x1b", "old\x85",
    # Escaped, it is longer than the column.
    "\u00ad" * 100,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_every_row_of_a_key_has_its_name_in_one_form(name: str) -> None:
    key = named_before(name)
    client = Client(headers={"X-API-Key": key.key})
    assert client.get("/guarded/").status_code == 200
    key.allowed_ips = ["127.0.0.0/8"]  # so that PostgreSQL looks up and writes in two statements
    key.save()
    assert client.get("/guarded/").status_code == 200
    assert client.get("/guarded/", REMOTE_ADDR="192.0.2.7").status_code == 401
    key.deactivate()
    assert client.get("/guarded/").status_code == 401

    events = AuditEvent.objects.order_by("id")[1:]  # it was made with another name
    assert [event.event for event in events] == ["used", "changed", "used", "refused", "deactivated", "refused"]
    (logged,) = {event.key_name for event in events}
    assert logged == printable(name)[:100]
    for asked in {name, logged}:
        reported = json.loads(run("keys_usage", "--json", "--key", asked).out)
        assert sum(line["count"] for line in reported) == 4, asked


def test_names_that_differ_a_little_are_told_apart() -> None:
    for name in ("TTS", "tts", "José", "Jose", "Jose\u0301", "😀", "😁"):
        Client(headers={"X-API-Key": make_key(name).key}).get("/guarded/")
        reported = json.loads(run("keys_usage", "--json", "--key", name).out)
        assert [(line["key_name"], line["uses"]) for line in reported] == [(name, 1)]


def test_a_name_that_no_key_has_to_the_letter_is_a_mistake() -> None:
    make_key("TTS")
    assert run("keys_usage", "--key", "TTS").status == 0
    assert run("keys_usage", "--key", "tts").status == 1


def test_the_admin_finds_what_the_log_escaped(admin_client: Client) -> None:
    key = make_key("soft\u00adhyphen")
    client = Client(headers={"X-API-Key": key.key})
    client.get("/guarded/a\u200bb/", headers={"X-Request-Id": "r\u2028"})
    key.delete()
    for text in ("soft\u00adhy", r"soft\xadhy", "/guarded/a\u200b"):
        page = admin_client.get("/admin/keys/auditevent/", {"q": text})
        assert "used" in [event.event for event in page.context["cl"].result_list], text


# All of Unicode but NUL and the halves of characters, which PostgreSQL does not take.
CHARACTERS = "SELECT 'a' || chr(code) || 'b' AS name, code FROM generate_series(1, 1114111) AS code"
CHARACTERS += " WHERE code NOT BETWEEN 55296 AND 57343"


def plain_to_postgresql(characters: str = CHARACTERS) -> dict[int, bool]:
    """Return for each character whether a use with such a name is written with the look-up."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT code, {needs_no_escaping('name')} FROM ({characters}) AS all_of_them")
        return dict(cursor.fetchall())


@postgresql
@pytest.mark.parametrize("conforming", ["on", "off"])
def test_of_all_of_unicode_postgresql_copies_the_names_that_need_no_escaping(conforming: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL standard_conforming_strings = {conforming}")
    is_plain = plain_to_postgresql()
    assert len(is_plain) == 0x10FFFF - 2048
    assert not [code for code, plain in is_plain.items() if plain != (printable(chr(code)) == chr(code))]


@postgresql
def test_a_name_is_compared_without_the_rules_of_a_language() -> None:
    # PostgreSQL has no regular expressions for such a collation.
    with connection.cursor() as cursor:
        cursor.execute("CREATE COLLATION nobody_minds_case (provider = icu, locale = 'und', deterministic = false)")
    names = "(VALUES ('TTS', 1), ('TTS\u00ad', 2)) AS names (name, code)"
    named = f"SELECT name COLLATE nobody_minds_case AS name, code FROM {names}"
    assert plain_to_postgresql(named) == {1: True, 2: False}


@contextmanager
def database_in(encoding: str) -> Iterator[None]:
    """Let the connection be to a database of its own in this encoding."""
    name, usual = own(encoding.lower()), connection.settings_dict["NAME"]
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    connection.close()
    connection.settings_dict["NAME"] = name
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = usual
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name}")


@postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1256", "EUC_JP", "SQL_ASCII"])
def test_in_another_encoding_only_ascii_is_known_to_need_none(encoding: str) -> None:
    names = {"TTS-Backend": True, "TTS\x7f": False, "TTS\x1b": False}
    names |= {"TTS\xad": False} if encoding == "LATIN1" else {}
    names |= {"TTS\u200e": False} if encoding == "WIN1256" else {}
    with database_in(encoding), connection.cursor() as cursor:
        for name, is_plain in names.items():
            cursor.execute(f"SELECT {needs_no_escaping('name')} FROM (SELECT CAST(%s AS text) AS name) AS one", [name])
            assert cursor.fetchone() == (is_plain,), name


@postgresql
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_the_use_of_a_name_that_needs_no_escaping_takes_one_statement(name: str) -> None:
    key = named_before(name)
    asked = []

    def may_use(found: APIKey) -> bool:
        asked.append(found)
        return False

    _, written = statements.find_and_record(fields.digests(key.key), row(), may_use)
    assert (written is not None) == (printable(name) == name)
    assert not asked
