"""The lists at the width of a small laptop, with Django's sidebar and filters beside them: every column is seen."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from tests.support.admin import LIST, LOG
from tests.support.keys import make_key
from tests.support.log import record

pytestmark = pytest.mark.matrix


@pytest.mark.parametrize("address", [LIST, LOG])
def test_no_column_of_a_list_is_out_of_sight(
    page: Any, transactional_db: None, settings: Settings, address: str
) -> None:
    from playwright.sync_api import expect

    if address == LOG:
        settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User"]}
    now = timezone.now()
    key = make_key(
        "A service whose name is as long as it may be " + "x" * 55, scopes=["users:read", "employees:read", "*"],
        expires_at=now + timedelta(days=2), created_at=now - timedelta(days=200),
    )  # fmt: skip
    for number in range(300):
        record(
            key, at=now - timedelta(minutes=5 * number), method="POST", path="/api/v1/hdts/employees/internal/1234567/",
            event="refused" if number % 2 else "used", reason="address" if number % 2 else "", duration_ms=1234,
            address="2001:db8:1234:5678:9abc:def0:1234:5678", user_agent="python-requests/2.32.3",
            endpoint=f"gateway:{'a-long-label.' * 8}example" if number % 3 else "users", owner="auth.user:7",
        )  # fmt: skip
    page.goto(address)
    table = page.locator("#result_list")
    expect(table).to_be_visible()
    assert table.evaluate("table => table.offsetWidth - table.parentElement.clientWidth") <= 0
