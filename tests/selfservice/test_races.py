"""Limits hold against requests at the same time."""

from collections.abc import Sequence

import pytest
from django.contrib.auth.models import User

from keys.models import APIKey, AuditEvent
from keys.selfservice import rules
from tests.selfservice.conftest import RULES
from tests.support.processes import at_once

pytestmark = pytest.mark.django_db(transaction=True)


def lines(anna: User, act: str, most: int = 3) -> str:
    """Return lines that do it time and again in the rules of the tests, and print what came of each."""
    return f"""
from datetime import timedelta
from contextlib import nullcontext
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.signals import setting_changed
from django.db import transaction
from keys.conf import conf
from keys.models import APIKey
from keys.selfservice import rules
settings.KEYS = {{**settings.KEYS, "OWNERS": ["auth.User"], "SELF_SERVICE": {{"MOST_KEYS": {most}}}}}
setting_changed.send(sender=None, setting="KEYS", value=settings.KEYS, enter=True)
anna = User.objects.get(pk={anna.pk})
for number in range(8):
    # As with ATOMIC_REQUESTS, whose transaction has begun by reading.
    with transaction.atomic() if number % 2 else nullcontext():
        User.objects.first()
        try:
            {act}
            print("done")
        except ValidationError:
            print("refused")
"""


def said(printed: Sequence[str]) -> dict[str, int]:
    words = "".join(printed).split()
    return {word: words.count(word) for word in {*words}}


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_keys_are_made(anna: User, most: int) -> None:
    create = lines(anna, 'rules.create(anna, name="A")', most)
    assert said(at_once(create, create)) == {"done": most, "refused": 16 - most}
    assert APIKey.objects.accepted().count() == most


def test_one_key_beyond_them_is_rotated_and_only_once(anna: User) -> None:
    keys = [rules.create(anna, name="A") for _ in range(RULES["MOST_KEYS"])]
    choose = f"rules.rotate(APIKey.objects.get(pk={keys[0].pk} + number % 2), timedelta(days=1))"
    rotate = lines(anna, choose)
    assert said(at_once(rotate, rotate)) == {"done": 1, "refused": 15}
    assert APIKey.objects.accepted().count() == RULES["MOST_KEYS"] + 1
    assert AuditEvent.objects.filter(event="rotated").count() == 1
