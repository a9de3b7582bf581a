"""Every page, light and dark, wide and narrow: nothing sticks out, and everybody can use it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Locator, Page, ViewportSize, expect

from keys.models import APIKey, AuditEvent
from tests.support.admin import ADD, DEACTIVATE, LIST, LOG, ROTATE, USAGE, page_of

pytestmark = pytest.mark.matrix


@pytest.fixture
def visits(transactional_db: None) -> list[Callable[[Page], object]]:
    """Return a visit to every page, with something to see on it."""
    key = APIKey.objects.create(name="A service with a rather long name", scopes=["users:read", "employees:read"])
    APIKey.objects.create(name="Ending", expires_at=timezone.now() + timedelta(days=2), scopes=["*"])
    APIKey.objects.create(name="Ended", is_active=False)
    replaced = APIKey.objects.create(name="Replaced", allowed_ips=["10.0.0.0/8"])
    replaced.rotate()
    for number in range(30):
        AuditEvent.objects.create(
            at=timezone.now() - timedelta(hours=7 * number), api_key=key, key_name=key.name, key_prefix=key.prefix,
            event="refused" if number % 5 == 0 else "used", reason="address" if number % 5 == 0 else "",
            method="GET", path=f"/api/v1/users/internal/{number}/with/a/long/path/", status=200, duration_ms=12,
            endpoint=f"gateway:{'a-long-label.' * 8}example" if number % 3 else "users-internal",
            address="2001:db8:1234:5678:9abc:def0:1234:5678", user_agent="python-requests/2",
        )  # fmt: skip
    AuditEvent.objects.create(
        at=timezone.now(), api_key=key, key_name=key.name, key_prefix=key.prefix, event="used", method="POST",
        path="/" + "a" * 250, endpoint=f"gateway:{'b' * 120}", status=200,
    )  # fmt: skip
    AuditEvent.objects.create(
        at=timezone.now() - timedelta(minutes=1), api_key=key, key_name=key.name, event="used", method="POST",
        path="/introspect/", endpoint=f"introspection:{'c' * 100}", actor=f"key:{'c' * 100}", status=200,
    )  # fmt: skip
    addresses = [
        USAGE, f"{LOG}?endpoint=users-internal",
        LIST, f"{LIST}?q=nobody", ADD, page_of(key), page_of(replaced), LOG, f"{LOG}?status=5",
        f"{ROTATE}?keys={key.pk}", f"{DEACTIVATE}?keys={key.pk}",
        f"{LOG}{AuditEvent.objects.order_by('-at')[0].pk}/change/",
    ]  # fmt: skip

    def goes_to(address: str) -> Callable[[Page], object]:
        return lambda page: page.goto(address)

    return [*(goes_to(address) for address in addresses), _makes_a_key, _makes_it_again]


def _makes_a_key(page: Page) -> None:
    page.goto(ADD)
    page.get_by_label("Name:").fill("New")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("button", name="Copy")).to_have_count(2)
    page.wait_for_load_state()


def _makes_it_again(page: Page) -> None:
    _makes_a_key(page)
    page.reload()


# What people look through: their colours, and the size of the window.
WINDOWS: dict[Literal["light", "dark"], ViewportSize] = {
    "light": {"width": 1280, "height": 900},
    "dark": {"width": 390, "height": 844},
}
# What is around the content is Django's.
NARROW = """
    [...document.querySelectorAll("#content input[type=text], #content textarea")]
        .filter(field => field.checkVisibility() && field.getBoundingClientRect().width < 100)
        .map(field => field.name)
"""
FIND_PROBLEMS = "axe.run('#content', { preload: false, resultTypes: ['violations'] })"


def test_every_page_fits_its_window_is_accessible_and_keeps_to_the_policy(
    page: Page, visits: list[Callable[[Page], object]]
) -> None:
    axe = Axe().axe_script
    problems = []
    for visit in visits:
        visit(page)
        page.evaluate(axe)
        for colours, size in WINDOWS.items():
            page.set_viewport_size(size)
            page.emulate_media(color_scheme=colours)
            # Colours that are about to change are looked at when they have.
            page.evaluate("document.getAnimations().forEach(animation => animation.finish())")
            if page.evaluate("document.documentElement.scrollWidth") > size["width"]:
                problems.append(f"{page.title()}, {colours}: wider than the window")
            problems += [f"{page.title()}, {colours}: {name} is too narrow" for name in page.evaluate(NARROW)]
            for violation in page.evaluate(FIND_PROBLEMS)["violations"]:
                targets = [node["target"] for node in violation["nodes"]]
                problems.append(f"{page.title()}, {colours}: {violation['help']} {targets}")
    assert problems == []


def test_the_colours_follow_the_scheme(new_page: Callable[..., Page], transactional_db: None) -> None:
    APIKey.objects.create(name="TTS")
    page = new_page(color_scheme="light")
    page.goto(LIST)
    badge = page.locator(".keys-badge")
    light = {name: colour(badge, name) for name in ("color", "background-color")}
    page.emulate_media(color_scheme="dark")
    for name, value in light.items():
        expect(badge).not_to_have_css(name, value)


def test_the_chosen_theme_wins_over_the_systems(new_page: Callable[..., Page], transactional_db: None) -> None:
    APIKey.objects.create(name="TTS")
    page = new_page(color_scheme="light")
    page.goto(LIST)
    badge = page.locator(".keys-badge")
    light = colour(badge, "background-color")
    page.evaluate("localStorage.setItem('theme', 'dark')")
    page.reload()
    expect(badge).not_to_have_css("background-color", light)


def colour(element: Locator, name: str) -> str:
    return str(element.evaluate("(element, name) => getComputedStyle(element).getPropertyValue(name)", name))


def test_what_the_keyboard_is_on_can_be_seen(new_page: Callable[..., Page], transactional_db: None) -> None:
    page = new_page()
    _makes_a_key(page)
    style = "element => getComputedStyle(element).cssText + getComputedStyle(element).outlineStyle"
    for target in (page.get_by_role("button", name="Copy").first, page.get_by_label("The key").first):
        before = target.evaluate(style)
        page.keyboard.press("Tab")
        target.focus()
        expect(target).to_be_focused()
        assert before != target.evaluate(style)
