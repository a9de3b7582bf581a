"""Keys of other systems in the lists, on their pages and in the commands: what is shown, and how they are searched."""

import csv
import json
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import escape

from keys import tokens
from keys.models import APIKey, AuditEvent, KeyOrigin
from keys.models.fields import Digest
from tests.support.admin import LIST, LOG, page_of, text_of
from tests.support.commands import run
from tests.support.log import body_of

pytestmark = pytest.mark.django_db

FOREIGN = "sk_live_4eC39HqLyjWDarjtT1zdp7dc"
ODD = '=HYPERLINK("x");<b>&%s'  # as a table of another system may have kept it


def imported(name: str, token: str = FOREIGN, ref: str = "7", **fields: Any) -> APIKey:
    key = APIKey.objects.create(name=name, key=Digest(tokens.digest(token)), **fields)
    KeyOrigin.objects.create(source="tracking.Token", ref=ref, api_key=key, at=timezone.now())
    return key


@pytest.mark.parametrize("form", [" {}\n", 'curl -H "X-Token: {}" https://x.test/a?b=c', "'{}',"])
@pytest.mark.parametrize("token", [FOREIGN, "550e8400e29b41d4a716446655440000", "s3cret.word-of-Anna"])
def test_a_pasted_key_of_another_form_leads_to_its_page(admin_client: Client, form: str, token: str) -> None:
    key = imported("Shop", token)
    assert admin_client.post(f"{LIST}search/", {"q": form.format(token)})["Location"] == page_of(key)
    assert admin_client.post(f"{LOG}search/", {"q": form.format(token)})["Location"] == f"{LOG}?key={key.pk}"


@pytest.mark.parametrize("address", [LIST, LOG])
@pytest.mark.parametrize("text", [FOREIGN, f"Bearer {FOREIGN}", "550e8400e29b41d4a716446655440000"])
def test_nor_is_one_that_is_not_here_put_into_an_address(admin_client: Client, address: str, text: str) -> None:
    response = admin_client.post(f"{address}search/", {"q": text})
    assert response["Location"] == address
    assert "No key has this value" in text_of(admin_client.get(address))


def test_the_id_of_a_request_is_a_text_to_search_for(admin_client: Client) -> None:
    for text in ("4bf92f3577b34da6a3ce929d0e0e4736", "Root=1-67891233-abcdef012345678912345678"):
        AuditEvent.objects.create(at=timezone.now(), event="used", method="GET", path="/", request_id=text)
        assert "q=" in admin_client.post(f"{LOG}search/", {"q": text})["Location"]
        assert len(admin_client.get(LOG, {"q": text}).context["cl"].result_list) == 1


@pytest.mark.parametrize("prefix", ["sk_live_4eC39HqL", "Ab/c+D.e", ODD[:20]])
def test_how_a_key_begins_is_shown_and_found_in_any_case(admin_client: Client, prefix: str) -> None:
    key = imported("Shop", prefix=prefix)
    APIKey.objects.create(name="Other")
    for text in (prefix, prefix.swapcase(), f"{prefix}…"):
        sent = admin_client.post(f"{LIST}search/", {"q": text})
        assert [one.pk for one in admin_client.get(sent["Location"]).context["cl"].result_list] == [key.pk]
        sent = admin_client.post(f"{LOG}search/", {"q": text})
        assert {one.api_key_id for one in admin_client.get(sent["Location"]).context["cl"].result_list} == {key.pk}
    for address in (LIST, page_of(key)):
        assert escape(prefix) in text_of(admin_client.get(address))
    assert "<b>" not in text_of(admin_client.get(page_of(key)))


def test_no_spreadsheet_takes_the_beginning_of_a_key_for_a_formula(admin_client: Client) -> None:
    imported("Shop", prefix=ODD[:20])
    (row,) = csv.DictReader(body_of(admin_client, f"{LOG}export/csv/").splitlines(keepends=True))
    assert row["key_prefix"] == f"'{ODD[:20]}"


def test_where_nothing_of_a_key_is_kept_it_says_so(admin_client: Client) -> None:
    digest_only, typed = imported("Digest"), APIKey.objects.create(name="Typed", key="hunter2")
    text = text_of(admin_client.get(LIST))
    assert text.count('title="How it begins is not kept.">—</span>') == 2
    assert text.count("typed by hand") == 1
    assert "typed by hand" not in text_of(admin_client.get(page_of(digest_only)))
    assert "typed by hand" in text_of(admin_client.get(page_of(typed)))
    listed = run("keys_list").out.splitlines()
    assert [line.split()[2] for line in listed[1:]] == ["—", "—"]
    rows = {row["name"]: row for row in json.loads(run("keys_list", "--json").out)}
    assert [(row["prefix"], row["typed_by_hand"]) for row in rows.values()] == [("", False), ("", True)]


def test_where_a_key_came_from_is_told(admin_client: Client) -> None:
    key = imported("Shop")
    other = imported("Office", "x" * 32, ref=tokens.digest("x" * 32))
    assert "tracking.Token, record 7" in text_of(admin_client.get(page_of(key)))
    page = text_of(admin_client.get(page_of(other)))
    assert "tracking.Token" in page
    assert "sha256" not in page
    assert text_of(admin_client.get(LIST)).count("tracking.Token</td>") == 2
    assert "from tracking.Token" in run("keys_list").out
    rows = {row["id"]: row["origins"] for row in json.loads(run("keys_list", "--json").out)}
    assert rows[key.pk] == [{"source": "tracking.Token", "ref": "7"}]
    explained = run("keys_explain", stdin=FOREIGN)
    assert (explained.status, explained.out.endswith("It came from tracking.Token, record 7.\n")) == (0, True)


def test_the_column_is_not_there_where_no_key_came_from_elsewhere(admin_client: Client) -> None:
    APIKey.objects.create(name="Ours")
    assert "column-came_from" not in text_of(admin_client.get(LIST))
    imported("Shop")
    assert "column-came_from" in text_of(admin_client.get(LIST))


def test_any_number_of_origins_takes_the_same_queries(admin_client: Client) -> None:
    counts = []
    for number in range(4):
        imported(f"Shop {number}", f"{FOREIGN}{number}", ref=str(number))
        with CaptureQueriesContext(connection) as of_the_page:
            admin_client.get(LIST)
        with CaptureQueriesContext(connection) as of_the_command:
            run("keys_list", "--json")
        counts.append((len(of_the_page), len(of_the_command)))
    assert {*counts[1:]} == {counts[1]}


@pytest.mark.parametrize("command", [("keys_rotate",), ("keys_deactivate", "--no-input"), ("keys_usage", "--key")])
@pytest.mark.parametrize("form", ["{}", "Bearer {}", "'{}'"])
def test_a_key_as_an_argument_is_refused_and_not_repeated(command: tuple[str, ...], form: str) -> None:
    imported("Shop")
    named = run(*command, form.format(FOREIGN))
    assert (named.status, named.out) == (1, "")
    assert "keys_explain on standard input" in named.err
    assert FOREIGN not in named.err
    assert APIKey.objects.get().is_active


def test_nor_is_it_taken_for_a_reason(admin_client: Client) -> None:
    key = imported("Shop")
    ended = run("keys_deactivate", str(key.pk), "--no-input", "--reason", f"leaked: “{FOREIGN}”")
    assert (ended.status, FOREIGN in ended.err) == (1, False)
    assert APIKey.objects.get().is_active


def test_a_beginning_names_a_key_in_the_commands_in_its_own_case() -> None:
    imported("Shop", prefix="sk_live_4eC39HqL")
    assert run("keys_deactivate", "sk_live_4EC39HQL", "--no-input").status == 1
    assert run("keys_usage", "--key", "sk_live_4eC39HqL").status == 0
    assert run("keys_deactivate", "sk_live_4eC39HqL…", "--no-input").status == 0
