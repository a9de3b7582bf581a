"""A person's own keys, as a person clicks through the pages: in the site's own page and in ours, in both colours."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import Error, Page, ViewportSize, expect
from pytest_django import Settings

from keys.models import APIKey
from tests.support.keys import make_key
from tests.support.log import record

pytestmark = pytest.mark.matrix

LIST = "/account/keys/"
TOKEN = re.compile(r"[0-9a-f]{40}")
WINDOWS: list[tuple[Literal["light", "dark"], ViewportSize]] = [
    ("light", {"width": 1280, "height": 900}),
    ("dark", {"width": 390, "height": 844}),
]
# In the first window everything is looked at; what other windows change is the colours.
FIND_PROBLEMS = "axe.run(document, { preload: false, resultTypes: ['violations'] })"
FIND_PALE_TEXT = "axe.run(document, { runOnly: ['color-contrast'], preload: false, resultTypes: ['violations'] })"
# As that of a site with a header and a style of its own, which knows nothing of dark colours.
BASE = (
    '<!DOCTYPE html><html lang="en"><head><title>{% block title %}{% endblock %}</title>'
    '<meta name="viewport" content="width=device-width, initial-scale=1"></head>'
    '<body><header><nav aria-label="Site">{{ request.user }}</nav></header>'
    "<main>{% block content %}{% endblock %}</main></body></html>"
)


@pytest.fixture(autouse=True)
def _own_keys(settings: Settings) -> None:
    settings.ROOT_URLCONF = "tests.selfservice.page_urls"
    scopes = {"SCOPES": ["users:read", "employees:read", "tracking:*"]}
    settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User"], "SELF_SERVICE": scopes}


def _use_a_base(settings: Settings) -> None:
    (engine,) = settings.TEMPLATES
    own = ("django.template.loaders.locmem.Loader", {"base.html": BASE})
    options = {**engine["OPTIONS"], "loaders": [own, "django.template.loaders.app_directories.Loader"]}
    settings.TEMPLATES = [{**engine, "APP_DIRS": False, "OPTIONS": options}]


@pytest.fixture
def keys(admin_user: User) -> list[APIKey]:
    """Return keys of every kind, the first of which is used."""
    now, ref = timezone.now(), f"auth.user:{admin_user.pk}"
    long_name = "A program whose name is as long as it may be " + "x" * 55
    made = [
        make_key("Nightly backup", owner_ref=ref, expires_at=now + timedelta(days=80), scopes=["users:read"]),
        make_key(long_name, owner_ref=ref, created_at=now - timedelta(days=200), scopes=[], allowed_ips=["10.0.0.0/8"]),
        make_key("By an administrator", owner_ref=ref, scopes=["*"]),
        make_key("Ended", owner_ref=ref, is_active=False),
        make_key("Replaced", owner_ref=ref, expires_at=now + timedelta(days=3)),
    ]
    made[-1].rotate()
    for number in range(12):
        request: dict[str, Any] = {
            "at": now - timedelta(hours=7 * number), "owner": ref, "address": "2001:db8:1234:5678:9abc:def0:1234:5678",
            "endpoint": "accounts:internal-user", "user_agent": f"Mozilla/5.0 (X11; Linux x86_64) {'x' * number}",
            "event": "used" if number % 3 else "refused", "reason": "" if number % 3 else "address",
        }  # fmt: skip
        record(made[0], **request)
    return made


def _goes_to(*address: object) -> Callable[[Page], object]:
    return lambda page: page.goto(LIST + "/".join(map(str, address)) + "/" * bool(address))


def _is_refused(page: Page) -> None:
    page.goto(f"{LIST}new/")
    page.get_by_label("Name").fill("Build server")
    page.get_by_text("More: where it may be used from").click()
    page.get_by_label("Allowed networks").fill("300.1.1.1")
    page.get_by_role("button", name="Make the key").click()
    expect(page.get_by_role("alert")).to_contain_text("No key was made.")
    page.wait_for_load_state()


def make(page: Page, name: str = "Build server") -> str:
    """Make a key and return it as the page shows it."""
    page.goto(f"{LIST}new/")
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Make the key").click()
    return shown(page)


def shown(page: Page) -> str:
    secret = page.get_by_label("The key", exact=True)
    expect(secret).to_have_text(TOKEN)
    page.wait_for_load_state()
    return secret.inner_text()


def test_every_page_fits_its_window_is_accessible_and_keeps_to_the_policy(
    page: Page, keys: list[APIKey], settings: Settings
) -> None:
    page.add_init_script(Axe().axe_script)
    first = keys[0]
    visits = [_goes_to(), _goes_to(first.pk), _goes_to(first.pk, "rotate")]
    visits += [
        _goes_to(first.pk, "change"),
        _goes_to(first.pk, "deactivate"),
        _is_refused,
        make,
        lambda page: page.reload(),
    ]
    problems = [problem for visit in visits for problem in found_on(page, visit)]
    _use_a_base(settings)
    problems += found_on(page, _goes_to())
    expect(page.get_by_role("navigation", name="Site")).to_have_text("admin")
    assert problems == []


def found_on(page: Page, visit: Callable[[Page], object]) -> Iterator[str]:
    """Yield what is wrong with a page, in each window."""
    visit(page)
    for find, (colours, size) in zip((FIND_PROBLEMS, FIND_PALE_TEXT), WINDOWS, strict=True):
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=colours)
        where = f"{page.title()}, {colours}"
        if page.evaluate("document.documentElement.scrollWidth") > size["width"]:
            yield f"{where}: wider than the window"
        for violation in page.evaluate(find)["violations"]:
            yield f"{where}: {violation['help']} {[node['target'] for node in violation['nodes']]}"


def test_a_key_is_made_copied_rotated_and_deactivated(page: Page, transactional_db: None) -> None:
    page.goto(LIST)
    page.get_by_role("link", name="Make a key").click()
    expect(page.get_by_label("Its last day")).to_be_hidden()
    page.get_by_label("On a day of your choice").check()
    day = f"{timezone.now() + timedelta(days=40):%Y-%m-%d}"
    page.get_by_label("Its last day").fill(day)
    page.get_by_label("Name").fill("Build server")
    page.get_by_role("button", name="Make the key").click()
    secret = shown(page)
    page.get_by_role("button", name="Copy").first.click()
    expect(page.get_by_role("status")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == secret
    # Neither by reloading the page nor on the way back is there a second key, or this one again.
    page.reload()
    expect(page.get_by_role("heading", name="No second key was made")).to_be_visible()
    page.get_by_role("link", name=re.compile("^Go to")).click()
    page.wait_for_url(re.compile(r"/keys/\d+/$"))
    with pytest.raises(Error, match="ERR_CACHE_MISS"):
        page.go_back()
    page.wait_for_url("chrome-error://**")
    page.goto(LIST)
    assert APIKey.objects.count() == 1
    page.get_by_role("link", name="Rotate Build server").click()
    expect(page.get_by_role("heading", name="Rotate Build server")).to_be_visible()
    # What the keyboard is on can be seen.
    for _ in range(3):
        page.keyboard.press("Tab")
        assert page.locator(":focus").evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
    page.get_by_label("1 hour", exact=True).check()
    page.get_by_role("button", name="Rotate").click()
    new = shown(page)
    page.evaluate("window.dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    assert new not in page.content()
    page.get_by_role("link", name="back to the keys").click()
    expect(page.get_by_text("retiring", exact=True)).to_be_visible()
    page.get_by_role("link", name="Deactivate Build server").last.click()
    page.get_by_label("Why (optional)").fill("Not needed any more.")
    page.get_by_role("button", name="Deactivate").click()
    expect(page.get_by_role("status")).to_have_text("It is refused from now on.")
    assert APIKey.objects.filter(is_active=False).count() == 1


# What old sites say of every label, field and definition, meaning those of their own forms.
HEAVY_STYLE = """
label { float: left; width: 200px; text-align: right } input { width: 100%; height: 40px }
dt { float: left; width: 30% } dd { margin-left: 40% } dl, ul { padding-left: 2rem }
"""


def test_a_heavy_style_of_the_site_leaves_the_forms_readable(
    new_page: Callable[..., Page], transactional_db: None
) -> None:
    page = new_page(bypass_csp=True, viewport={"width": 1280, "height": 900})
    page.goto(f"{LIST}new/")
    plain = page.get_by_text("On a day of your choice").bounding_box()
    page.add_style_tag(content=HEAVY_STYLE)
    heavy = page.get_by_text("On a day of your choice").bounding_box()
    assert plain
    assert heavy
    assert heavy["height"] < 2 * plain["height"]
    assert (heavy["x"], heavy["width"]) == (plain["x"], plain["width"])
    label = page.get_by_text("Name", exact=True)
    assert label.evaluate("element => getComputedStyle(element).textAlign") == "start"


def test_in_a_language_from_right_to_left_what_is_not_in_it_can_be_read(
    page: Page, keys: list[APIKey], settings: Settings
) -> None:
    settings.LANGUAGE_CODE = "ar"
    page.goto(LIST)
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    how = "element => [getComputedStyle(element).unicodeBidi, getComputedStyle(element).textAlign]"
    assert page.get_by_text(re.compile(r"^\d+ of 20 keys$")).evaluate(how) == ["plaintext", "right"]
    assert page.locator("code").first.evaluate("element => getComputedStyle(element).direction") == "ltr"
