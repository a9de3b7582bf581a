"""What users may do with keys of their own, whichever door they come by."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.utils import timezone
from django.utils.functional import SimpleLazyObject
from pytest_django import Settings

from keys.authentication import ServicePrincipal
from keys.conf import offered_scopes
from keys.models import APIKey, AuditEvent
from keys.models.stale import StaleKeyError
from keys.selfservice import rules
from tests.selfservice.calls import endless, refused, row, with_rules
from tests.selfservice.limits import RULES

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LONGEST: timedelta = RULES["LONGEST_LIFE"]


class TestOwners:
    def test_are_the_user(self, anna: User) -> None:
        assert rules.owners_of(anna) == {f"auth.user:{anna.pk}": anna}
        assert [*rules.owners_of(SimpleLazyObject(lambda: anna))] == [f"auth.user:{anna.pk}"]

    def test_are_nobody_for_who_is_no_person(self, key: APIKey) -> None:
        for somebody in (None, AnonymousUser(), ServicePrincipal(key)):
            assert rules.owners_of(somebody) == {}
            assert not rules.keys_of(somebody).exists()
            with refused("owner"):
                rules.create(somebody, name="A")

    @pytest.mark.parametrize("name", ["twice", "as_queryset", "as_generator"])
    def test_may_be_any_iterable(self, settings: Settings, anna: User, name: str) -> None:
        team = Group.objects.create(name="team")
        anna.groups.add(team)
        with_rules(settings, OWNERS_OF=f"tests.selfservice.owners.{name}")
        assert rules.owners_of(anna) == {f"auth.group:{team.pk}": team}
        key = rules.create(anna, name="A")
        assert key.owner == team
        assert [*rules.keys_of(anna)] == [key]

    def test_may_be_none(self, settings: Settings, anna: User) -> None:
        with_rules(settings, OWNERS_OF="tests.selfservice.owners.none")
        assert rules.owners_of(anna) == {}
        with refused("owner"):
            rules.create(anna, name="A")

    @pytest.mark.parametrize("name", ["unlisted", "unsaved", "a_user", "a_text", "asynchronous"])
    def test_that_can_be_none_are_a_mistake_that_is_named(self, settings: Settings, anna: User, name: str) -> None:
        with_rules(settings, OWNERS_OF=f"tests.selfservice.owners.{name}")
        with pytest.raises(ImproperlyConfigured, match=rf"OWNERS_OF.*tests\.selfservice\.owners\.{name}"):
            rules.owners_of(anna)

    def test_may_not_be_left_to_users_who_are_not_listed(self, settings: Settings, anna: User) -> None:
        settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.Group"]}
        with pytest.raises(ImproperlyConfigured, match=r"auth\.User is not in KEYS"):
            rules.owners_of(anna)
        settings.KEYS = {**settings.KEYS, "OWNERS": []}
        with pytest.raises(ImproperlyConfigured, match="names who may own keys"):
            rules.owners_of(anna)

    def test_may_be_thousands(self, settings: Settings, anna: User) -> None:
        Group.objects.bulk_create(Group(name=f"team {number}") for number in range(3000))
        anna.groups.set(Group.objects.all())
        with_rules(settings, OWNERS_OF="tests.selfservice.owners.as_queryset")
        last = Group.objects.latest("pk")
        key = rules.create(anna, name="A", owner=f"auth.group:{last.pk}")
        APIKey.objects.create(name="B", owner_ref=f"auth.user:{anna.pk}")
        assert [*rules.keys_of(anna)] == [key]

    def test_of_others_get_no_keys(self, anna: User, ben: User) -> None:
        for ref in (f"auth.user:{ben.pk}", f"auth.user:0{anna.pk}", f"AUTH.USER:{anna.pk}", "auth.user:", "*", "\0"):
            with refused("owner"):
                rules.create(anna, name="A", owner=ref)
        assert not APIKey.objects.exists()

    def test_are_named_where_there_are_several(self, settings: Settings, anna: User) -> None:
        anna.groups.set([Group.objects.create(name="one"), Group.objects.create(name="two")])
        with_rules(settings, OWNERS_OF="tests.selfservice.owners.as_queryset")
        with refused("owner"):
            rules.create(anna, name="A")

    def test_without_a_name_are_the_user_among_several(self, settings: Settings, anna: User) -> None:
        anna.groups.set([Group.objects.create(name="one")])
        with_rules(settings, OWNERS_OF="tests.selfservice.owners.with_groups")
        assert rules.create(SimpleLazyObject(lambda: anna), name="A").owner == anna

    def test_are_nobody_for_who_has_been_deactivated(self, settings: Settings, anna: User) -> None:
        team = Group.objects.create(name="one")
        anna.groups.set([team])
        with_rules(settings, OWNERS_OF="tests.selfservice.owners.as_queryset")
        rules.create(anna, name="A")
        # As AllowAllUsersModelBackend lets in.
        anna.is_active = False
        assert not rules.keys_of(anna).exists()
        with refused("owner"):
            rules.create(anna, name="A", owner=f"auth.group:{team.pk}")

    def test_who_may_have_no_keys_get_none(self, settings: Settings, key: APIKey, anna: User) -> None:
        User.objects.filter(pk=anna.pk).update(is_active=False)
        # The copy that is logged in does not know yet.
        with refused("owner"):
            rules.create(anna, name="B")
        with refused("owner"):
            rules.rotate(key)
        assert APIKey.objects.count() == 1


class TestScopes:
    def test_are_those_that_are_offered(self, settings: Settings, anna: User) -> None:
        assert offered_scopes() == ["users:read", "tracking:*"]
        with_rules(settings, SCOPES=None)
        assert offered_scopes() == ["users:read", "employees:read"]
        settings.KEYS = {**settings.KEYS, "DEFAULT_SCOPES": ["*", "users:read"]}
        assert offered_scopes() == ["users:read"]
        assert rules.create(anna, name="A").scopes == ["users:read"]

    @pytest.mark.parametrize("scope", ["*", "users:*", "employees:read", "tracking:write", "", "USERS:READ"])
    def test_beyond_them_are_refused(self, key: APIKey, anna: User, scope: str) -> None:
        with refused("scopes"):
            rules.create(anna, name="B", scopes=["users:read", scope])
        with refused("scopes"):
            rules.change(key, scopes=["users:read", scope])
        assert row(key).scopes == ["users:read"]

    def test_may_be_none_and_are_kept_once(self, anna: User) -> None:
        assert rules.create(anna, name="A", scopes=[]).scopes == []
        key = rules.create(anna, name="A", scopes=["users:read"] * 1000)
        assert key.scopes == ["users:read"]
        assert rules.change(key, scopes=["tracking:*"] * 1000).scopes == ["tracking:*"]
        assert rules.change(key, scopes=["tracking:write"]).scopes == ["tracking:write"]

    def test_that_were_given_can_be_lost_only(self, given: APIKey) -> None:
        for scopes in (["users:*", "employees:read", "tracking:*"], ["employees:read", "tracking:*"], ["tracking:*"]):
            with refused("scopes"):
                rules.change(given, scopes=scopes)
        for scopes in (["users:read", "employees:read"], ["employees:read"], []):
            assert row(rules.change(given, scopes=scopes)).scopes == scopes
        # What is left holds no more than users give.
        assert rules.change(given, scopes=["tracking:*"]).scopes == ["tracking:*"]

    def test_that_were_given_stay_when_a_copy_knows_better(self, key: APIKey) -> None:
        old = row(key)
        APIKey.objects.filter(pk=key.pk).update(scopes=["employees:read"])
        with refused("scopes"):
            rules.change(old, scopes=["users:read", "tracking:*"])
        with refused():
            rules.rotate(old)

    @pytest.mark.parametrize("scopes", ['["users:read"]', {"users:read": 1}, 7, None])
    def test_of_another_type_are_not_rotated(self, key: APIKey, scopes: Any) -> None:
        models.QuerySet(APIKey).filter(pk=key.pk).update(scopes=models.Value(scopes, models.JSONField()))
        with refused():
            rules.rotate(row(key))

    def test_that_were_given_are_not_rotated_but_renamed_and_ended(self, given: APIKey) -> None:
        with refused():
            rules.rotate(given)
        assert APIKey.objects.count() == 1
        assert row(rules.change(given, name=" H ")).name == "H"
        rules.deactivate(given)
        assert row(given).state == "inactive"

    def test_that_nobody_knows_any_more_hinder_nothing_else(self, settings: Settings, key: APIKey) -> None:
        settings.KEYS = {**settings.KEYS, "SCOPES": {"mail:send": ""}}
        assert rules.change(key, name="B").name == "B"


class TestNetworks:
    def test_of_a_key_that_was_given_are_narrowed_only(self, given: APIKey) -> None:
        for wider in ([], ["0.0.0.0/0"], ["10.0.0.0/8", "192.0.2.1"], ["::/0"], ["nonsense"]):
            with refused("allowed_ips"):
                rules.change(given, allowed_ips=wider)
        rules.change(given, allowed_ips=["10.0.0.0/9", "10.128.0.0/9"])
        rules.change(given, allowed_ips=["10.0.0.0/8"])
        assert row(rules.change(given, allowed_ips=["10.1.2.3"])).allowed_ips == ["10.1.2.3"]

    def test_are_free_otherwise_and_bounded(self, key: APIKey, anna: User) -> None:
        many = [f"192.0.2.{number}" for number in range(101)]
        with refused("allowed_ips"):
            rules.change(key, allowed_ips=many)
        with refused("allowed_ips"):
            rules.create(anna, name="A", allowed_ips=many)
        with refused("allowed_ips"):
            rules.change(key, allowed_ips=["10.0.0.1/8"])
        assert rules.change(key, allowed_ips=["192.0.2.0/24"] * 101).allowed_ips == ["192.0.2.0/24"]
        assert rules.change(key, allowed_ips=[]).allowed_ips == []


class TestNumber:
    def fill(self, anna: User, number: int = 3) -> list[APIKey]:
        return [rules.create(anna, name=f"{count}") for count in range(number)]

    def test_is_at_most_that_of_the_settings(self, anna: User, ben: User) -> None:
        keys = self.fill(anna)
        with refused() as caught:
            rules.create(anna, name="D")
        assert "3 keys" in caught.value.messages[0]
        rules.create(ben, name="D")
        rules.deactivate(keys[0])
        rules.create(anna, name="D")

    def test_counts_what_an_administrator_gave(self, anna: User, given: APIKey) -> None:
        self.fill(anna, 2)
        with refused():
            rules.create(anna, name="D")

    def test_lets_one_key_be_rotated_at_a_time(self, anna: User) -> None:
        first, second, third = self.fill(anna)
        successor = rules.rotate(first, DAY)
        assert APIKey.objects.accepted().count() == 4
        for key in (second, third, successor):
            with refused():
                rules.rotate(key, HOUR)
        with refused():
            rules.create(anna, name="D")
        # This ends the old one at once.
        rules.rotate(second, timedelta(0))
        assert APIKey.objects.accepted().count() == 4
        rules.deactivate(first)
        with refused():
            rules.create(anna, name="D")
        rules.rotate(third, DAY)
        assert APIKey.objects.accepted().count() == 4

    def test_that_was_lowered_hinders_no_rotation_that_adds_none(self, settings: Settings, anna: User) -> None:
        key, *_ = self.fill(anna)
        with_rules(settings, MOST_KEYS=1)
        with refused():
            rules.rotate(key)
        rules.rotate(key, timedelta(0))


class TestRotation:
    def test_happens_once(self, key: APIKey) -> None:
        old = row(key)
        rules.rotate(key)
        for copy in (key, old):
            with pytest.raises(rules.NotRotatableError):
                rules.rotate(copy)
        assert APIKey.objects.count() == 2

    def test_shows_and_changes_nothing_of_what_an_administrator_rotated(self, key: APIKey) -> None:
        old = endless(key)
        successor = key.rotate()
        with pytest.raises(rules.NotRotatableError):
            rules.rotate(old)
        assert row(successor).expires_at == successor.expires_at


def test_a_key_that_got_another_owner_is_left_alone(key: APIKey, ben: User) -> None:
    old = row(key)
    APIKey.objects.filter(pk=key.pk).update(owner_ref=f"auth.user:{ben.pk}")
    for act in (rules.rotate, lambda key: rules.change(key, name="B"), rules.deactivate):
        with pytest.raises(StaleKeyError):
            act(old)
    assert (row(key).name, row(key).state) == ("A", "active")


def test_an_old_copy_undoes_no_change_of_others(key: APIKey) -> None:
    old = row(key)
    rules.change(key, name="B")
    with pytest.raises(StaleKeyError):
        rules.change(old, name="C")
    assert row(key).name == "B"


def test_only_what_users_may_change_is_changed(key: APIKey, ben: User) -> None:
    before = row(key).snapshot()
    others = {"is_active": False, "rate": "9/s", "owner_ref": f"auth.user:{ben.pk}", "family": 9, "note": "x"}
    rules.change(key, **others, key="0" * 40, prefix="x", created_at=timezone.now(), replaced_by=key, pk=99)
    assert row(key).snapshot() == before


def test_a_reason_is_in_the_log_and_bounded(key: APIKey) -> None:
    with refused("reason"):
        rules.deactivate(key, "x" * 201)
    rules.deactivate(key, "lost the laptop")
    assert AuditEvent.objects.get(event="deactivated").detail == "lost the laptop"


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\0b", "a\nb"])
def test_a_name_is_one_of_a_key(key: APIKey, anna: User, name: str) -> None:
    with refused("name"):
        rules.create(anna, name=name)
    with refused("name"):
        rules.change(key, name=name)
