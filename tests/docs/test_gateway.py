"""The blocks of the manual's chapter about what is not Django."""

import json
import shlex
from datetime import timedelta
from string import Template

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from keys.models import AuditEvent
from tests.docs.pages import block, run
from tests.support.introspecting import FORM
from tests.support.keys import make_key

ASKING = ("docs/gateway.md", "## A service asks about a key")


@pytest.mark.django_db
def test_a_service_asks_as_the_manual_says(settings: Settings) -> None:
    settings.ROOT_URLCONF = tuple(run(block(*ASKING, "python"))["urlpatterns"])
    own = make_key("Orders", scopes=["keys:introspect"])
    key = make_key("Billing", scopes=["orders:read", "users:*"], expires_at=timezone.now() + timedelta(days=30))
    command = Template(block(*ASKING, "sh")).substitute(AUTH_SERVICE_URL="", OWN_KEY=own.key, PRESENTED_KEY=key.key)

    # As curl reads it, which not every machine has.
    program, address, *options = shlex.split(command)
    sent = [(name, value) for name, value in zip(options[::2], options[1::2], strict=True)]
    headers = dict(value.split(": ") for name, value in sent if name == "-H")
    form = "&".join(value for name, value in sent if name == "-d")
    assert (program, {name for name, _ in sent}) == ("curl", {"-H", "-d"})
    answer = Client().post(address, form, FORM, headers=headers)

    shown, answered = json.loads(block(*ASKING, "json")), answer.json()
    assert answered.keys() == shown.keys()
    same = {"active", "scope", "username"}
    assert {name: answered[name] for name in same} == {name: shown[name] for name in same}
    row = AuditEvent.objects.get(key_name="Billing", event="used")
    assert (row.actor, row.endpoint, row.address) == ("key:Orders", "introspection:Orders", "203.0.113.7")
