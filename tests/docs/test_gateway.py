"""The blocks of the manual's chapter about what is not Django."""

import json
import os
import subprocess
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from keys.models import AuditEvent
from tests.docs.pages import block, run
from tests.support.keys import make_key

ASKING = ("docs/gateway.md", "## A service asks about a key")


@pytest.mark.django_db(transaction=True)
def test_a_service_asks_as_the_manual_says(settings: Settings, live_server: LiveServer) -> None:
    settings.ROOT_URLCONF = tuple(run(block(*ASKING, "python"))["urlpatterns"])
    own = make_key("Orders", scopes=["keys:introspect"])
    key = make_key("Billing", scopes=["orders:read", "users:*"], expires_at=timezone.now() + timedelta(days=30))
    environment = {
        **os.environ, "AUTH_SERVICE_URL": live_server.url, "OWN_KEY": str(own.key), "PRESENTED_KEY": str(key.key)
    }  # fmt: skip

    command = block(*ASKING, "sh").replace("curl ", "curl --silent --show-error --fail ")
    answer: Any = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=True)

    shown, answered = json.loads(block(*ASKING, "json")), json.loads(answer.stdout)
    assert answered.keys() == shown.keys()
    same = {"active", "scope", "username"}
    assert {name: answered[name] for name in same} == {name: shown[name] for name in same}
    row = AuditEvent.objects.get(key_name="Billing", event="used")
    assert (row.actor, row.endpoint, row.address) == ("key:Orders", "introspection:Orders", "203.0.113.7")
