"""A real browser before a real server that allows nothing inline and nothing from elsewhere.

Without a chromium these tests are skipped; with `KEYS_REQUIRE_BROWSER=1`, as in CI, they fail. The packages that
drive it are in the extra `dev`, like pytest: without them there are no tests to be skipped.

Whatever follows an action waits by itself: `click` returns before the next page is there.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client, override_settings
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

# Nobody waits so long but on a machine that does too much at once.
MILLISECONDS_TO_WAIT = 60_000
expect.set_options(timeout=MILLISECONDS_TO_WAIT)


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """A browser for these tests alone: while Playwright's loop runs, the thread counts as asynchronous."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        sentence = "The tests in a browser need Debian's chromium (apt-get install chromium)."
        if os.environ.get("KEYS_REQUIRE_BROWSER") == "1":
            pytest.fail(sentence)
        pytest.skip(sentence)
    with pytest.MonkeyPatch.context() as environment, sync_playwright() as playwright:
        environment.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        browser = playwright.chromium.launch(
            executable_path=executable, args=ARGUMENTS, timeout=3 * MILLISECONDS_TO_WAIT
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def live_server() -> Iterator[LiveServer]:
    """pytest-django's server, with the strict policy on every answer."""
    with override_settings(MIDDLEWARE=["tests.browser.policy.StrictPolicy", *settings.MIDDLEWARE]):
        server = LiveServer("localhost")
        yield server
        server.stop()


@pytest.fixture
def new_page(
    chromium: Browser, live_server: LiveServer, admin_user: User, admin_client: Client
) -> Iterator[Callable[..., Page]]:
    """Return a function that opens a browser window, logged in; its arguments are those of Playwright's contexts.

    When the test is done, whatever the browser complained about fails it.
    """
    complaints: list[str] = []
    contexts = []

    def open_page(**options: Any) -> Page:
        context = chromium.new_context(base_url=live_server.url, **options)
        contexts.append(context)
        context.set_default_timeout(MILLISECONDS_TO_WAIT)
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=live_server.url)
        context.add_cookies(
            [{"name": "sessionid", "value": admin_client.cookies["sessionid"].value, "url": live_server.url}]
        )
        page = context.new_page()
        page.on("console", lambda message: complaints.extend(_complaint(message)))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def _complaint(message: ConsoleMessage) -> list[str]:
    # A site has an icon of its own, or has not.
    is_harmless = message.type not in {"error", "warning"} or message.location["url"].endswith("/favicon.ico")
    return [] if is_harmless else [f"{message.type}: {message.text} ({message.location['url']})"]


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    """A wide window in light colours."""
    return new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
