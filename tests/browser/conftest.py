"""A real browser before a real server that allows nothing inline and nothing from elsewhere.

Without a chromium these tests are skipped; with `KEYS_REQUIRE_BROWSER=1`, as in CI, they fail.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client, override_settings
from pytest_django.live_server_helper import LiveServer

ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def _is_missing(what: str) -> None:
    sentence = f"The tests in a browser need {what}."
    if os.environ.get("KEYS_REQUIRE_BROWSER") == "1":
        pytest.fail(sentence)
    pytest.skip(sentence)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser for one module: while Playwright's loop runs, the thread counts as asynchronous."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        _is_missing("Debian's chromium (apt-get install chromium)")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        _is_missing("playwright (pip install playwright)")
    with pytest.MonkeyPatch.context() as environment, sync_playwright() as playwright:
        environment.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
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
def new_page(chromium: Any, live_server: LiveServer, admin_user: User, admin_client: Client) -> Iterator[Any]:
    """Return a function that opens a browser window, logged in; its arguments are those of Playwright's contexts.

    When the test is done, whatever the browser complained about fails it.
    """
    complaints: list[str] = []
    contexts = []

    def open_page(**options: Any) -> Any:
        context = chromium.new_context(base_url=live_server.url, **options)
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=live_server.url)
        context.add_cookies(
            [{"name": "sessionid", "value": admin_client.cookies["sessionid"].value, "url": live_server.url}]
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.extend(_complaint(message)))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def _complaint(message: Any) -> list[str]:
    # A site has an icon of its own, or has not.
    is_harmless = message.type not in {"error", "warning"} or message.location["url"].endswith("/favicon.ico")
    return [] if is_harmless else [f"{message.type}: {message.text} ({message.location['url']})"]


@pytest.fixture
def page(new_page: Callable[..., Any]) -> Any:
    """A wide window in light colours."""
    return new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
