"""The life of a key, as a person clicks through it."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from django.utils import timezone
from playwright.sync_api import Error, Locator, Page, expect

from keys.models import APIKey, AuditEvent
from tests.support.admin import ADD, LIST, LOG, page_of

pytestmark = pytest.mark.matrix

TOKEN = re.compile(r"[0-9a-f]{40}")


def add(page: Page, name: str = "TTS-Backend") -> str:
    """Make a key and return it as the page shows it."""
    page.goto(ADD)
    page.get_by_label("Name:").fill(name)
    page.get_by_role("button", name="Save", exact=True).click()
    return shown(page)


def shown(page: Page) -> str:
    """Return the key of the page that shows one, once that page is there as a whole with its scripts."""
    secret = page.get_by_label("The key", exact=True)
    expect(secret).to_have_text(TOKEN)
    page.wait_for_load_state()
    return secret.inner_text()


def copy_buttons(page: Page) -> tuple[Locator, Locator]:
    """Return the buttons that copy the key and the command, whatever they say at the time."""
    buttons = page.get_by_role("button", name=re.compile("^(Copy|Copied)$"))
    expect(buttons).to_have_count(2)
    return buttons.first, buttons.last


def test_a_key_is_made_shown_and_copied(page: Page) -> None:
    key = add(page)
    assert APIKey.objects.get(key=key).name == "TTS-Backend"
    of_key, of_command = copy_buttons(page)
    of_key.click()
    # The button says so for a few seconds, the status for as long as the page is there.
    expect(page.get_by_role("status")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == key
    of_command.click()
    page.wait_for_function("key => navigator.clipboard.readText().then(text => text !== key)", arg=key)
    assert page.evaluate("navigator.clipboard.readText()").startswith(f'curl -H "X-API-Key: {key}" http://localhost')


def test_the_copy_button_says_that_it_copied_and_can_be_used_again(page: Page) -> None:
    page.clock.install()
    add(page)
    button, other = copy_buttons(page)
    page.clock.pause_at(page.evaluate("Date.now() + 1000"))
    button.click()
    expect(button).to_have_text("Copied")
    expect(other).to_have_text("Copy")
    page.clock.run_for(4000)
    expect(button).to_have_text("Copy")


def test_the_copy_button_works_by_keyboard(page: Page) -> None:
    key = add(page)
    button, _ = copy_buttons(page)
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == key


def test_reloading_shows_the_key_no_more_and_makes_no_second(page: Page) -> None:
    key = add(page)
    page.reload()
    expect(page.locator("#content")).to_contain_text("was sent before")
    assert key not in page.content()
    assert APIKey.objects.count() == 1


def test_neither_back_nor_forward_shows_the_key_again(page: Page) -> None:
    key = add(page)
    page.get_by_role("link", name="Back to the keys").click()
    page.wait_for_url(f"**{LIST}")
    # Chromium keeps nothing of the page, and asks before it would send the form once more.
    with pytest.raises(Error, match="ERR_CACHE_MISS"):
        page.go_back()
    page.wait_for_url("chrome-error://**")
    page.reload()
    expect(page.locator("#content")).to_contain_text("was sent before")
    assert key not in page.content()
    assert APIKey.objects.count() == 1


def test_a_page_that_is_left_forgets_the_key(page: Page) -> None:
    # As a browser does that keeps whole pages for its Back button, no-store or not.
    key = add(page)
    copy_buttons(page)
    assert page.content().count(key) == 2
    page.evaluate("window.dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    expect(page.get_by_text("This key was shown once.")).to_have_count(2)
    assert key not in page.content()


def test_without_scripts_the_key_is_there_to_be_selected(new_page: Callable[..., Page]) -> None:
    page = new_page(java_script_enabled=False)
    assert TOKEN.fullmatch(add(page))
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)


def test_a_key_is_rotated_from_its_page(page: Page) -> None:
    key = APIKey.objects.create(name="TTS")
    page.goto(page_of(key))
    page.get_by_role("link", name="Rotate").click()
    page.get_by_label("1 day", exact=True).check()
    page.get_by_role("button", name="Rotate").click()
    successor = shown(page)
    key.refresh_from_db()
    assert key.replaced_by == APIKey.objects.get(key=successor)
    page.goto(page_of(key))
    expect(page.get_by_text("retiring", exact=True)).to_be_visible()


def test_keys_are_deactivated_from_the_list(page: Page) -> None:
    for name in ("One", "Two", "Three"):
        APIKey.objects.create(name=name)
    page.goto(LIST)
    for name in ("One", "Two"):
        page.get_by_role("row", name=name).get_by_role("checkbox").check()
    page.get_by_label("Action:").select_option("deactivate_selected")
    page.locator("button[name=index]").click()
    expect(page.get_by_text("Nobody used it in the last 7 days.")).to_have_count(2)
    page.get_by_role("button", name="Deactivate 2 keys").click()
    expect(page.get_by_text("2 keys are refused from now on.")).to_be_visible()
    assert set(APIKey.objects.filter(is_active=False).values_list("name", flat=True)) == {"One", "Two"}


def test_the_list_is_narrowed_by_its_filters(page: Page) -> None:
    APIKey.objects.create(name="Working")
    APIKey.objects.create(name="Ended", expires_at=timezone.now())
    page.goto(LIST)
    page.locator("#changelist-filter").get_by_role("link", name="expired").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    expect(page.get_by_role("link", name="Ended")).to_be_visible()


def test_a_pasted_key_leads_to_its_row_and_is_in_no_address(page: Page) -> None:
    key = APIKey.objects.create(name="TTS")
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    page.goto(LIST)
    page.get_by_role("search").get_by_role("textbox").fill(str(key.key))
    page.get_by_role("search").get_by_role("button", name="Search").click()
    page.wait_for_url(f"**{page_of(key)}")
    assert not [address for address in addresses if str(key.key) in address]


@pytest.mark.parametrize(("link", "ending"), [("Export as CSV", "csv"), ("Export as JSON Lines", "jsonl")])
def test_the_log_is_exported(page: Page, tmp_path: Path, link: str, ending: str) -> None:
    APIKey.objects.create(name="TTS")
    AuditEvent.objects.create(at=timezone.now(), event="refused", reason="unknown")
    page.goto(LOG)
    page.locator("#changelist-filter").get_by_role("link", name="created").click()
    page.wait_for_url(re.compile("event.*created"))
    with page.expect_download() as download:
        page.get_by_role("link", name=link).click()
    assert download.value.suggested_filename.endswith(f".{ending}")
    download.value.save_as(tmp_path / "log")
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == (2 if ending == "csv" else 1)
    assert "TTS" in (next(csv.DictReader(lines))["key_name"] if ending == "csv" else lines[0])
