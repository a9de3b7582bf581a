"""The API for users' own keys over HTTP, also for those who are after what is not theirs."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from keys.conf import self_service
from keys.models import APIKey, AuditEvent
from keys.selfservice import rules
from tests.selfservice.calls import FIELDS, JSON, URL, logged_in, patch, post, row
from tests.selfservice.limits import RULES
from tests.support.callers import UNKNOWN


@pytest.fixture
def client(anna: User) -> Client:
    return logged_in(anna)


def log(key: APIKey, **columns: Any) -> None:
    """Write a use of the key."""
    usual = {"api_key_id": key.pk, "key_name": "A", "owner": key.owner_ref, "endpoint": "orders", "path": "/o/"}
    AuditEvent.objects.create(**{"event": "used", "at": timezone.now(), "method": "GET", **usual, **columns})


class TestKeys:
    def test_are_made_with_the_secret_shown_once(self, client: Client, anna: User) -> None:
        answer = post(client, URL, {"name": "laptop", "scopes": ["users:read"], "allowed_ips": ["127.0.0.1"]})
        assert answer.status_code == 201
        assert "no-store" in answer["Cache-Control"]
        body = answer.json()
        assert body.keys() == FIELDS | {"key"}
        made = APIKey.objects.get(pk=body["id"])
        assert (made.name, made.owner, made.scopes, made.allowed_ips) == (
            "laptop", anna, ["users:read"], ["127.0.0.1"],
        )  # fmt: skip
        assert (body["owner"], body["state"], body["prefix"]) == (f"auth.user:{anna.pk}", "active", made.prefix)
        for url in (URL, f"{URL}{made.pk}/", f"{URL}{made.pk}/usage/"):
            again = client.get(url)
            assert again.status_code == 200
            assert "no-store" in again["Cache-Control"]
            assert body["key"] not in again.content.decode()
            assert str(made.key) not in again.content.decode()

    def test_are_listed_the_newest_first_with_what_a_program_needs(self, client: Client, key: APIKey) -> None:
        second = rules.create(key.owner, name="B")
        log(key)
        body = client.get(URL).json()
        assert [one["id"] for one in body] == [second.pk, key.pk]
        assert all(one.keys() == FIELDS for one in body)
        assert [one["last_used_at"] is None for one in body] == [True, False]
        assert body[1] == client.get(f"{URL}{key.pk}/").json()

    def test_are_listed_with_few_statements(
        self, client: Client, anna: User, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        ref = f"auth.user:{anna.pk}"
        APIKey.objects.bulk_create(APIKey(name="A", owner_ref=ref) for _ in range(30))
        # The session, the user, the keys.
        with django_assert_num_queries(3):
            assert len(client.get(URL).json()) == 30

    def test_are_changed(self, client: Client, key: APIKey) -> None:
        end = timezone.now() + timedelta(days=3)
        answer = patch(
            client, f"{URL}{key.pk}/", {"name": "B", "scopes": ["tracking:*"], "expires_at": end.isoformat()}
        )
        assert answer.status_code == 200
        assert answer.json().keys() == FIELDS
        changed = row(key)
        assert (changed.name, changed.scopes, changed.expires_at) == ("B", ["tracking:*"], end)
        assert answer.json()["expires_at"] == client.get(f"{URL}{key.pk}/").json()["expires_at"]
        assert patch(client, f"{URL}{key.pk}/", {}).status_code == 200

    def test_are_rotated_once(self, client: Client, key: APIKey) -> None:
        answer = post(client, f"{URL}{key.pk}/rotate/", {"grace": 3600})
        assert answer.status_code == 201
        assert "no-store" in answer["Cache-Control"]
        body = answer.json()
        assert body.keys() == FIELDS | {"key"}
        old = client.get(f"{URL}{key.pk}/").json()
        assert (old["replaced_by"], old["state"]) == (body["id"], "retiring")
        assert datetime.fromisoformat(old["expires_at"]) <= timezone.now() + timedelta(hours=1)
        for grace in ({}, {"grace": 0}):
            again = post(client, f"{URL}{key.pk}/rotate/", grace)
            assert again.status_code == 409
            assert "rotated already" in again.json()["detail"]
        assert APIKey.objects.count() == 2

    def test_are_ended_with_a_reason(self, client: Client, key: APIKey) -> None:
        answer = post(client, f"{URL}{key.pk}/deactivate/", {"reason": "lost"})
        assert (answer.status_code, answer.json()["state"]) == (200, "inactive")
        assert AuditEvent.objects.get(event="deactivated").detail == "lost"
        assert post(client, f"{URL}{key.pk}/deactivate/").status_code == 200
        assert post(client, f"{URL}{key.pk}/rotate/").status_code == 400
        assert patch(client, f"{URL}{key.pk}/", {"name": "B"}).status_code == 400

    def test_tell_who_used_them(self, client: Client, key: APIKey, ben: User) -> None:
        for _ in range(2):
            log(key, address="192.0.2.1", user_agent="curl/8")
        log(key, event="refused", reason="scope", address="192.0.2.9")
        log(key, address="192.0.2.7", at=timezone.now() - timedelta(days=40))
        # The same key, while it was another one's, and another key.
        log(key, address="192.0.2.8", owner=f"auth.user:{ben.pk}")
        log(key, address="192.0.2.8", api_key_id=key.pk + 1)
        body = client.get(f"{URL}{key.pk}/usage/").json()
        assert body.keys() == {"since", "clients", "has_more"}
        columns = ("address", "user_agent", "endpoint", "uses", "refusals")
        assert {tuple(one[name] for name in columns) for one in body["clients"]} == {
            ("192.0.2.1", "curl/8", "orders", 2, 0), ("192.0.2.9", "", "orders", 0, 1),
        }  # fmt: skip


class TestEachChange:
    @pytest.fixture(params=[True, False], ids=["with middleware", "without"])
    def _middleware(self, request: pytest.FixtureRequest, settings: Settings) -> None:
        if not request.param:
            settings.MIDDLEWARE = [one for one in settings.MIDDLEWARE if not one.startswith("keys.")]

    @pytest.mark.usefixtures("_middleware")
    def test_is_an_event_with_the_user_as_actor(self, client: Client) -> None:
        made = post(client, URL, {"name": "A"}).json()["id"]
        patch(client, f"{URL}{made}/", {"name": "B"})
        second = post(client, f"{URL}{made}/rotate/").json()["id"]
        post(client, f"{URL}{second}/deactivate/")
        events = AuditEvent.objects.order_by("pk").values_list("event", "api_key_id", "actor")
        assert [*events] == [
            (event, number, "user: anna")
            for event, number in (
                ("created", made), ("changed", made), ("created", second), ("rotated", made), ("deactivated", second),
            )
        ]  # fmt: skip


class TestNobodyElse:
    def answers(self, client: Client, base: str, pk: Any, **headers: str) -> Iterator[int]:
        """Yield the status of each operation."""
        yield client.get(base, headers=headers).status_code
        yield client.post(base, {"name": "X"}, content_type=JSON, headers=headers).status_code
        yield from self.of_a_key(client, base, pk, **headers)

    def of_a_key(self, client: Client, base: str, pk: Any, **headers: str) -> Iterator[int]:
        yield client.get(f"{base}{pk}/", headers=headers).status_code
        yield client.patch(f"{base}{pk}/", {"name": "X"}, content_type=JSON, headers=headers).status_code
        yield client.post(f"{base}{pk}/rotate/", {}, content_type=JSON, headers=headers).status_code
        yield client.post(f"{base}{pk}/deactivate/", {}, content_type=JSON, headers=headers).status_code
        yield client.get(f"{base}{pk}/usage/", headers=headers).status_code

    def test_finds_a_key(self, key: APIKey, ben: User) -> None:
        before, events = row(key).snapshot(), AuditEvent.objects.count()
        assert {*self.of_a_key(logged_in(ben), URL, key.pk)} == {404}
        root = User.objects.create_superuser("root")
        assert {*self.of_a_key(logged_in(root), URL, key.pk)} == {404}
        assert logged_in(ben).get(URL).json() == []
        assert (row(key).snapshot(), AuditEvent.objects.count()) == (before, events)

    @pytest.mark.parametrize("pk", ["0", "-1", "x", "9" * 40, "1.5", "%00", "null", "1 OR 1=1", "1e3", "..", "*"])
    def test_finds_a_key_that_is_none(self, client: Client, key: APIKey, pk: str) -> None:
        assert {*self.of_a_key(client, URL, pk)} <= {404, 405}

    @pytest.mark.parametrize("base", [URL, "/open/", "/included/", "/staff/"])
    @pytest.mark.parametrize("scopes", [[], ["*"]], ids=["nothing", "everything"])
    def test_gets_in_with_a_key(self, key: APIKey, base: str, scopes: list[str]) -> None:
        APIKey.objects.filter(pk=key.pk).update(scopes=scopes)
        for header in ({"X-API-Key": key.key}, {"Authorization": f"Api-Key {key.key}"}):
            assert {*self.answers(Client(), base, key.pk, **header)} == {403}
        assert APIKey.objects.count() == 1

    @pytest.mark.parametrize("base", [URL, "/open/", "/included/", "/staff/"])
    def test_gets_in(self, key: APIKey, base: str) -> None:
        assert {*self.answers(Client(), base, key.pk)} <= {401, 403}
        assert {*self.answers(Client(), base, key.pk, **{"X-API-Key": UNKNOWN})} == {401}
        assert APIKey.objects.count() == 1

    def test_gets_in_by_a_session_beside_a_key(self, client: Client, key: APIKey, ben: User) -> None:
        theirs = rules.create(ben, name="B")
        # The view asks for a key first: it is a key that calls, whoever is logged in.
        assert {*self.answers(client, "/open/", key.pk, **{"X-API-Key": theirs.key})} == {403}
        # Here it asks for the session first, and whose key is beside it is nothing to it.
        headers = {"X-API-Key": theirs.key}
        assert [one["id"] for one in client.get(URL, headers=headers).json()] == [key.pk]

    def test_gets_in_whom_the_project_keeps_out(self, client: Client, key: APIKey) -> None:
        assert {*self.answers(client, "/staff/", key.pk)} == {403}

    def test_sends_a_form_from_another_site(self, anna: User) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(anna)
        assert client.post(URL, {"name": "A"}).status_code == 403
        assert not APIKey.objects.exists()


class TestLimits:
    def test_are_named(self, client: Client, key: APIKey) -> None:
        late = (key.created_at + RULES["LONGEST_LIFE"] + timedelta(days=1)).isoformat()
        for answer in (
            post(client, URL, {"name": "B", "expires_at": late}),
            patch(client, f"{URL}{key.pk}/", {"expires_at": late}),
            patch(client, f"{URL}{key.pk}/", {"expires_at": None}),
        ):
            assert answer.status_code == 400
            assert "at the latest" in answer.json()["expires_at"][0]
        answer = post(client, URL, {"name": "B", "scopes": ["*"]})
        assert (answer.status_code, answer.json()) == (400, {"scopes": ["“*” is not a scope that you may give."]})
        answer = post(client, f"{URL}{key.pk}/rotate/", {"grace": 10**9})
        assert (answer.status_code, [*answer.json()]) == (400, ["grace"])
        for _ in range(2):
            assert post(client, URL, {"name": "B"}).status_code == 201
        answer = post(client, URL, {"name": "B"})
        assert answer.status_code == 400
        assert answer.json() == {"non_field_errors": ["3 keys are the most that can be in use. Deactivate one first."]}

    def test_of_what_was_given_are_kept(self, client: Client, given: APIKey) -> None:
        url = f"{URL}{given.pk}/"
        assert client.get(url).json()["scopes"] == ["users:*", "employees:read"]
        assert patch(client, url, {"scopes": ["users:*", "employees:read", "tracking:*"]}).status_code == 400
        assert patch(client, url, {"allowed_ips": []}).status_code == 400
        answer = post(client, f"{url}rotate/")
        assert answer.status_code == 400
        assert "key" not in answer.json()
        assert patch(client, url, {"name": "H", "scopes": []}).status_code == 200

    def test_of_owners_are_kept(self, client: Client, ben: User, settings: Settings, anna: User) -> None:
        answer = post(client, URL, {"name": "B", "owner": f"auth.user:{ben.pk}"})
        assert (answer.status_code, [*answer.json()]) == (400, ["owner"])
        assert post(client, URL, {"name": "B", "owner": f"auth.user:{anna.pk}"}).status_code == 201
        settings.KEYS = {**settings.KEYS, "OWNER_IS_ALLOWED": "tests.ownership.rules.no"}
        answer = post(client, URL, {"name": "B"})
        assert (answer.status_code, answer.json()) == (400, {"owner": ["This owner may have no keys."]})
        settings.KEYS = {**settings.KEYS, "OWNER_IS_ALLOWED": "tests.ownership.rules.fails"}
        assert post(client, URL, {"name": "B"}).status_code == 503

    def test_of_what_may_be_written_are_kept(self, client: Client, key: APIKey, ben: User) -> None:
        before = row(key).snapshot()
        beyond = {
            "owner": f"auth.user:{ben.pk}", "owner_ref": f"auth.user:{ben.pk}", "rate": "9/s", "is_active": False,
            "key": UNKNOWN, "prefix": "x", "created_at": "2020-01-01T00:00:00Z", "replaced_by": key.pk, "family": 1,
            "id": 99, "pk": 99, "note": "x", "state": "inactive", "last_used_at": None, "replaced_by_id": key.pk,
        }  # fmt: skip
        assert patch(client, f"{URL}{key.pk}/", beyond).status_code == 200
        assert row(key).snapshot() == before
        made = post(client, URL, {**beyond, "name": "B", "owner": key.owner_ref}).json()
        assert (made["rate"], made["state"], made["replaced_by"]) == ("", "active", None)
        assert made["key"] != UNKNOWN
        assert made["id"] != 99
        successor = post(client, f"{URL}{key.pk}/rotate/", {**beyond, "scopes": ["*"], "expires_at": None}).json()
        assert (successor["owner"], successor["scopes"], successor["rate"]) == (key.owner_ref, ["users:read"], "")

    def test_hold_without_an_end_too(self, client: Client, settings: Settings) -> None:
        settings.KEYS = {**settings.KEYS, "SELF_SERVICE": {**self_service(), "LONGEST_LIFE": None}}
        made = post(client, URL, {"name": "A", "expires_at": None}).json()
        assert made["expires_at"] is None
