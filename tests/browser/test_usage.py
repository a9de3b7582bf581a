"""The report on usage, as a person walks through it, in both colours and on a phone."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from keys.models import APIKey
from tests.support.admin import LIST, USAGE, page_of
from tests.support.keys import make_key
from tests.support.log import record

pytestmark = pytest.mark.matrix


@pytest.fixture
def key(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> APIKey:
    """Return a key in use, beside a variable in use, one that is not, a key that is not, and a stranger."""
    monkeypatch.setenv("WEBHOOK_API_KEY", "shared-secret-of-five-apis-0123456789")
    now = timezone.now()
    used = make_key("A service with a rather long name", scopes=["users:read"])
    make_key("Forgotten", created_at=now - timedelta(days=100))
    record(key_name="env:WEBHOOK_API_KEY", at=now - timedelta(days=60), endpoint="tracking:records", address="10.0.0.1")
    for number in range(6):
        request: dict[str, Any] = {
            "at": now - timedelta(days=number), "endpoint": "accounts:internal-user",
            "path": f"/api/v1/users/internal/{number}/", "address": f"2001:db8:1234:5678:9abc:def0:1234:{number:04d}",
        }  # fmt: skip
        record(used, **request)
        record(key_name="env:INTERNAL_API_KEY", **request)
        record(event="refused", reason="unknown", **request)
    return used


def test_the_report_is_found_narrowed_and_looked_further_back(page: Any, key: APIKey) -> None:
    from playwright.sync_api import expect

    page.goto(LIST)
    page.get_by_role("link", name="Usage of keys").click()
    webhook = page.get_by_role("region", name="env:WEBHOOK_API_KEY")
    expect(webhook.first).to_be_visible()
    expect(page.get_by_role("heading", name="env:WEBHOOK_API_KEY")).to_contain_text("safe to retire")
    page.get_by_role("link", name="90 days").click()
    expect(page.get_by_role("link", name="90 days")).to_have_attribute("aria-current", "true")
    expect(page.get_by_role("heading", name="env:WEBHOOK_API_KEY")).to_contain_text("in use")
    page.get_by_role("link", name="env:WEBHOOK_API_KEY").click()
    expect(page.get_by_role("heading", name="env:INTERNAL_API_KEY")).to_have_count(0)
    page.goto(page_of(key))
    page.get_by_role("link", name="Its usage by API and address").click()
    expect(page.get_by_role("rowheader", name="A service with a rather long name")).to_be_visible()
    expect(page.get_by_text("Forgotten")).to_have_count(0)


@pytest.mark.parametrize(
    "window",
    [
        pytest.param({"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}, id="wide-light"),
        pytest.param({"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}, id="narrow-dark"),
    ],
)
def test_the_report_fits_its_window_and_is_accessible(
    new_page: Callable[..., Any], key: APIKey, window: dict[str, Any]
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    # axe writes styles of its own into the page.
    page = new_page(**window, bypass_csp=True)
    for address in (USAGE, f"{USAGE}?days=x&key={key.pk}", f"{USAGE}?key=env:NONE"):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= window["viewport"]["width"]
        violations = axe.run(page, context="#content", options={"preload": False}).response["violations"]
        assert [(one["help"], [node["target"] for node in one["nodes"]]) for one in violations] == []
