"""The life of a key, as a person clicks through it."""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from keys.models import APIKey, AuditEvent
from tests.administering import ADD, LIST, LOG, page_of

TOKEN = re.compile(r"\b[0-9a-f]{40}\b")


def add(page: Any, name: str = "TTS-Backend") -> str:
    """Make a key and return it as the page shows it."""
    page.goto(ADD)
    page.get_by_label("Name:").fill(name)
    page.get_by_role("button", name="Save", exact=True).click()
    return str(page.get_by_label("The key", exact=True).inner_text())


def test_a_key_is_made_shown_and_copied(page: Any) -> None:
    key = add(page)
    assert APIKey.objects.get(key=key).name == "TTS-Backend"
    page.get_by_role("button", name="Copy").first.click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == key
    assert page.get_by_role("status").inner_text() == "Copied"
    page.get_by_role("button", name="Copy", exact=True).click()
    assert page.evaluate("navigator.clipboard.readText()").startswith(f'curl -H "X-API-Key: {key}" http://localhost')


def test_the_copy_button_works_by_keyboard(page: Any) -> None:
    key = add(page)
    page.get_by_role("button", name="Copy").first.focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == key


def test_reloading_shows_the_key_no_more_and_makes_no_second(page: Any) -> None:
    key = add(page)
    page.reload()
    assert key not in page.content()
    assert "was sent before" in page.content()
    assert APIKey.objects.count() == 1


def test_neither_back_nor_forward_shows_the_key_again(page: Any) -> None:
    key = add(page)
    page.get_by_role("link", name="Back to the keys").click()
    page.wait_for_url(f"**{LIST}")
    # Chromium keeps nothing of the page, and asks before it would send the form once more.
    with pytest.raises(Exception, match="ERR_CACHE_MISS"):
        page.go_back()
    page.wait_for_url("chrome-error://**")
    page.reload()
    assert key not in page.content()
    assert "was sent before" in page.content()
    assert APIKey.objects.count() == 1


def test_a_page_that_is_left_forgets_the_key(page: Any) -> None:
    # As a browser does that keeps whole pages for its Back button, no-store or not.
    key = add(page)
    assert page.content().count(key) == 2
    page.evaluate("window.dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    assert key not in page.content()
    assert page.get_by_text("This key was shown once.").count() == 2


def test_without_scripts_the_key_is_there_to_be_selected(new_page: Callable[..., Any]) -> None:
    page = new_page(java_script_enabled=False)
    key = add(page)
    assert TOKEN.fullmatch(key)
    assert not page.get_by_role("button", name="Copy").count()


def test_a_key_is_rotated_from_its_page(page: Any) -> None:
    key = APIKey.objects.create(name="TTS")
    page.goto(page_of(key))
    page.get_by_role("link", name="Rotate").click()
    page.get_by_label("1 day", exact=True).check()
    page.get_by_role("button", name="Rotate").click()
    shown = page.get_by_label("The key", exact=True).inner_text()
    key.refresh_from_db()
    assert key.replaced_by == APIKey.objects.get(key=shown)
    page.goto(page_of(key))
    assert page.get_by_text("retiring", exact=True).is_visible()


def test_keys_are_deactivated_from_the_list(page: Any) -> None:
    for name in ("One", "Two", "Three"):
        APIKey.objects.create(name=name)
    page.goto(LIST)
    for name in ("One", "Two"):
        page.get_by_role("row", name=name).get_by_role("checkbox").check()
    page.get_by_label("Action:").select_option("deactivate_selected")
    page.locator("button[name=index]").click()
    assert page.get_by_text("Nobody used it in the last 7 days.").count() == 2
    page.get_by_role("button", name="Deactivate 2 keys").click()
    page.get_by_text("2 keys are refused from now on.").wait_for()
    assert set(APIKey.objects.filter(is_active=False).values_list("name", flat=True)) == {"One", "Two"}


def test_the_list_is_narrowed_by_its_filters(page: Any) -> None:
    APIKey.objects.create(name="Working")
    APIKey.objects.create(name="Ended", expires_at=timezone.now())
    page.goto(LIST)
    page.locator("#changelist-filter").get_by_role("link", name="expired").click()
    assert page.locator("#result_list tbody tr").count() == 1
    assert page.get_by_role("link", name="Ended").is_visible()


def test_a_pasted_key_leads_to_its_row_and_is_in_no_address(page: Any) -> None:
    key = APIKey.objects.create(name="TTS")
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    page.goto(LIST)
    page.get_by_role("search").get_by_role("textbox").fill(str(key.key))
    page.get_by_role("search").get_by_role("button", name="Search").click()
    page.wait_for_url(f"**{page_of(key)}")
    assert not [address for address in addresses if str(key.key) in address]


@pytest.mark.parametrize(("link", "ending"), [("Export as CSV", "csv"), ("Export as JSON Lines", "jsonl")])
def test_the_log_is_exported(page: Any, tmp_path: Path, link: str, ending: str) -> None:
    APIKey.objects.create(name="TTS")
    AuditEvent.objects.create(at=timezone.now(), event="refused", reason="unknown")
    page.goto(LOG)
    page.locator("#changelist-filter").get_by_role("link", name="created").click()
    with page.expect_download() as download:
        page.get_by_role("link", name=link).click()
    assert download.value.suggested_filename.endswith(f".{ending}")
    download.value.save_as(tmp_path / "log")
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == (2 if ending == "csv" else 1)
    assert "TTS" in (next(csv.DictReader(lines))["key_name"] if ending == "csv" else lines[0])
