"""Whose key it is, chosen by somebody who knows a part of a name."""

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User
from playwright.sync_api import Locator, Page, expect

from keys.models import APIKey
from tests.browser.test_looks import FIND_PROBLEMS, WINDOWS
from tests.support.admin import ADD, LIST, page_of

pytestmark = pytest.mark.matrix


@pytest.fixture
def anna(transactional_db: None, settings: Any) -> User:
    settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User"]}
    User.objects.bulk_create(User(username=f"ann{number}") for number in range(9))
    return User.objects.create_user("anna.with.a.rather.long.name@example.org")


def write(page: Page, text: str) -> Locator:
    """Write into the field for the owner, and return it."""
    page.goto(ADD)
    page.get_by_label("Name:").fill("TTS")
    field = page.get_by_label("Owner:")
    field.fill(text)
    return field


def test_an_owner_is_chosen_by_keyboard(page: Page, anna: User) -> None:
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    field = write(page, "ann")
    expect(page.get_by_role("option")).to_have_count(10)
    page.keyboard.press("Escape")
    expect(page.get_by_role("option")).to_have_count(0)
    field.press_sequentially("a.w")
    expect(page.get_by_role("option")).to_have_count(1)
    page.keyboard.press("ArrowDown")
    expect(field).to_have_attribute("aria-activedescendant", str(page.get_by_role("option").get_attribute("id")))
    page.keyboard.press("Enter")
    expect(field).to_have_value(f"auth.user:{anna.pk}")
    expect(page.get_by_text(anna.username, exact=True)).to_be_visible()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_label("The key", exact=True)).to_be_visible()
    assert APIKey.objects.get().owner_ref == f"auth.user:{anna.pk}"
    assert not [address for address in addresses if "ann" in address]


def test_without_scripts_the_form_says_whom_it_found(new_page: Callable[..., Page], anna: User) -> None:
    page = new_page(java_script_enabled=False)
    write(page, "anna")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text(f"{anna.username} (auth.user:{anna.pk})")).to_be_visible()
    page.get_by_label("Owner:").fill(f"auth.user:{anna.pk}")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_label("The key", exact=True)).to_be_visible()


def test_what_is_shown_of_owners_fits_and_is_accessible(page: Page, anna: User) -> None:
    axe = Axe().axe_script
    gone = APIKey.objects.create(name="Gone", owner_ref="auth.user:999", note="Ask Ann.\nOPS-1")
    APIKey.objects.create(name="TTS", owner_ref=f"auth.user:{anna.pk}")
    User.objects.filter(username="ann1").update(is_active=False)
    APIKey.objects.create(name="Idle", owner_ref=f"auth.user:{User.objects.get(username='ann1').pk}")
    problems = []
    for address in (LIST, page_of(gone), ADD):
        page.goto(address)
        page.evaluate(axe)
        for colours, size in WINDOWS.items():
            page.set_viewport_size(size)
            page.emulate_media(color_scheme=colours)
            if address == ADD:
                page.get_by_label("Owner:").fill("ann")
                page.get_by_role("option", name="ann3").hover()
                page.keyboard.press("ArrowDown")
            page.evaluate("document.getAnimations().forEach(animation => animation.finish())")
            if page.evaluate("document.documentElement.scrollWidth") > size["width"]:
                problems.append(f"{page.title()}, {colours}: wider than the window")
            for violation in page.evaluate(FIND_PROBLEMS)["violations"]:
                targets = [node["target"] for node in violation["nodes"]]
                problems.append(f"{page.title()}, {colours}: {violation['help']} {targets}")
    assert problems == []
