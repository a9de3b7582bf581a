"""Limits hold against requests at the same time, in threads and processes of a real server."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import pytest
import requests
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import connection, connections, transaction
from django.test import Client
from pytest_django import Settings

from keys.models import APIKey, AuditEvent
from keys.selfservice import rules
from tests.selfservice.limits import RULES
from tests.support.servers import GUNICORN, Server, serving

pytestmark = pytest.mark.django_db(transaction=True)

AT_ONCE = 12
TOKEN = "a" * 32


@pytest.fixture
def server() -> Iterator[Server]:
    command = ["2" if before == "--workers" else part for before, part in zip(("", *GUNICORN), GUNICORN, strict=False)]
    with serving(tuple(command), settings="tests.selfservice.server_settings") as server:
        yield server


class Sender:
    """Sends what a browser of the user would, many times at once."""

    def __init__(self, server: Server, user: User) -> None:
        client = Client()
        client.force_login(user)
        self.address = "http://{}:{}".format(*server.address)
        self.cookies = {"sessionid": client.cookies["sessionid"].value, "csrftoken": TOKEN}

    def __call__(self, *paths: str, **body: object) -> Counter[int]:
        def send(path: str) -> int:
            url, headers = f"{self.address}{path}", {"X-CSRFToken": TOKEN}
            return requests.post(url, json=body, cookies=self.cookies, headers=headers, timeout=60).status_code

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return Counter(pool.map(send, paths))


@pytest.mark.parametrize("before", [0, 2], ids=["the first", "the third"])
def test_a_key_in_a_transaction_that_goes_on_is_counted(settings: Settings, anna: User, before: int) -> None:
    settings.KEYS = {**settings.KEYS, "SELF_SERVICE": {**RULES, "MOST_KEYS": before + 1}}
    for _ in range(before):
        rules.create(anna, name="A")
    refusals = []

    def create() -> None:
        try:
            rules.create(anna, name="A")
        except ValidationError as error:
            refusals.append(error)
        finally:
            connections.close_all()

    other = Thread(target=create)
    with transaction.atomic():
        rules.create(anna, name="A")
        other.start()
        # Without a lock it is done by then, and has counted too few.
        other.join(0.5)
    other.join()
    assert len(refusals) == 1
    assert APIKey.objects.count() == before + 1


@pytest.mark.skipif(connection.vendor != "postgresql", reason="Only PostgreSQL counts what a snapshot holds.")
@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE", "READ COMMITTED"])
def test_the_number_holds_in_any_isolation(settings: Settings, anna: User, level: str) -> None:
    settings.KEYS = {**settings.KEYS, "SELF_SERVICE": {**RULES, "MOST_KEYS": 1}}
    holds, waits = Event(), Event()
    answers = []

    def create() -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {level}")
        holds.wait(10)
        try:
            rules.create(anna, name="A")
            answers.append("made")
        except ValidationError:
            answers.append("refused")
        finally:
            connections.close_all()

    other = Thread(target=create)
    other.start()
    with transaction.atomic():
        rules.create(anna, name="A")
        holds.set()
        waits.wait(0.3)  # until the other one waits for the lock
    other.join()
    assert answers == ["refused"]


@pytest.mark.matrix
def test_no_more_keys_are_made_nor_rotated(server: Server, anna: User) -> None:
    send, most = Sender(server, anna), RULES["MOST_KEYS"]
    assert send(*["/mine/"] * AT_ONCE, name="A") == {201: most, 400: AT_ONCE - most}
    assert APIKey.objects.accepted().count() == most

    first, second, third = APIKey.objects.order_by("pk")
    paths = [f"/mine/{key.pk}/rotate/" for key in (first, second) for _ in range(AT_ONCE // 2)]
    answers = send(*paths, grace=3600)
    assert answers[201] == 1
    assert answers.keys() == {201, 400, 409}
    assert APIKey.objects.accepted().count() == most + 1
    assert AuditEvent.objects.filter(event="rotated").count() == 1

    # One that ends at once makes way for its successor, and for no other.
    assert send(*[f"/mine/{third.pk}/rotate/"] * AT_ONCE, grace=0) == {201: 1, 409: AT_ONCE - 1}
    assert APIKey.objects.accepted().count() == most + 1
