"""What users may do with keys of their own, whichever door they come by."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import models
from django.utils import timezone
from django.utils.functional import SimpleLazyObject
from pytest_django import Settings

from keys import moments
from keys.authentication import ServicePrincipal
from keys.models import APIKey, AuditEvent, RotationError
from keys.models.stale import StaleKeyError
from keys.selfservice import rules
from keys.tokens import Secret
from tests.selfservice.limits import RULES
from tests.support.keys import backdate

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LONGEST: timedelta = RULES["LONGEST_LIFE"]


def with_rules(settings: Settings, **more: Any) -> None:
    settings.KEYS = {**settings.KEYS, "SELF_SERVICE": {**RULES, **more}}


def refused(field: str = "__all__") -> Any:
    """Expect a refusal that is about this field and no other."""
    return pytest.raises(ValidationError, check=lambda error: [*_by_field(error)] == [field])


def _by_field(error: ValidationError) -> dict[str, Any]:
    return error.error_dict if hasattr(error, "error_dict") else {"__all__": error}


def row(key: APIKey) -> APIKey:
    return APIKey.objects.get(pk=key.pk)


def endless(key: APIKey) -> APIKey:
    """Let the key have no end, as one that an administrator made."""
    APIKey.objects.filter(pk=key.pk).update(expires_at=None)
    return row(key)


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
        assert rules.offered() == {"users:read": "Read the details of users.", "tracking:*": ""}
        with_rules(settings, SCOPES=None)
        assert [*rules.offered()] == ["users:read", "employees:read"]
        settings.KEYS = {**settings.KEYS, "DEFAULT_SCOPES": ["*", "users:read"]}
        assert [*rules.offered()] == ["users:read"]
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


class TestLife:
    def test_is_the_longest_unless_an_end_is_named(self, anna: User) -> None:
        key = rules.create(anna, name="A")
        assert key.expires_at is not None
        assert timedelta(0) <= key.created_at + LONGEST - key.expires_at < HOUR
        assert rules.create(anna, name="A", expires_at=timezone.now() + DAY).expires_at is not None

    def test_may_be_for_ever_where_none_is_the_longest(self, settings: Settings, anna: User) -> None:
        with_rules(settings, LONGEST_LIFE=None)
        key = rules.create(anna, name="A")
        assert key.expires_at is None
        assert rules.change(key, expires_at=timezone.now() + 5000 * DAY).expires_at is not None
        assert rules.change(key, expires_at=None).expires_at is None
        assert rules.rotate(key).expires_at is None
        with_rules(settings, LONGEST_LIFE=timedelta.max)
        assert rules.create(anna, name="B").expires_at is None

    @pytest.mark.parametrize(
        "too_late",
        [
            lambda end: end + timedelta(microseconds=1),
            lambda end: (end + timedelta(microseconds=1)).astimezone(moments._zone()),
            lambda end: end.replace(tzinfo=None) + HOUR,
            lambda end: datetime(9999, 12, 31, 23, 59, 59),  # noqa: DTZ001
            lambda end: datetime.max.replace(tzinfo=UTC),
            lambda end: datetime.max.replace(tzinfo=ZoneInfo("America/New_York")),
            lambda end: datetime.min.replace(tzinfo=ZoneInfo("Asia/Tokyo")),
            lambda end: timezone.now(),
            lambda end: datetime(1, 1, 1, tzinfo=UTC),
            lambda end: None,
        ],
    )
    def test_is_not_stretched_by_a_change(self, key: APIKey, too_late: Callable[[datetime], datetime | None]) -> None:
        with refused("expires_at"):
            rules.change(key, expires_at=too_late(key.created_at + LONGEST))
        assert row(key).expires_at == key.expires_at

    def test_may_be_changed_within_the_longest(self, key: APIKey) -> None:
        for end in (timezone.now() + DAY, key.created_at + LONGEST):
            assert row(rules.change(key, expires_at=end)).expires_at == end

    def test_of_a_key_that_an_administrator_made_may_be_shortened(self, key: APIKey) -> None:
        backdate(key, timezone.now() - 2 * LONGEST)
        end = timezone.now() + 9 * LONGEST
        key = endless(key)
        assert row(rules.change(key, expires_at=end)).expires_at == end
        for later in (end + timedelta(microseconds=1), None):
            with refused("expires_at"):
                rules.change(key, expires_at=later)
        assert row(rules.change(key, expires_at=end, name="B")).name == "B"
        assert row(rules.change(key, expires_at=end - DAY)).expires_at == end - DAY

    def test_of_a_key_that_was_given_is_shortened_only(self, given: APIKey) -> None:
        end = timezone.now() + DAY
        assert row(rules.change(given, expires_at=end)).expires_at == end
        with refused("expires_at"):
            rules.change(given, expires_at=end + HOUR)
        assert row(rules.change(given, expires_at=end - HOUR)).expires_at == end - HOUR

    def test_of_a_key_that_is_to_go_is_shortened_only(self, key: APIKey) -> None:
        old = row(key)
        rules.rotate(key, DAY)
        assert key.expires_at is not None
        for copy in (row(key), old):
            with refused("expires_at"):
                rules.change(copy, expires_at=key.expires_at + HOUR)
        assert row(rules.change(key, expires_at=key.expires_at - HOUR)).expires_at == key.expires_at

    def test_of_a_key_that_is_to_go_is_not_stretched_by_an_old_copy(self, anna: User) -> None:
        key = rules.create(anna, name="A", expires_at=timezone.now() + HOUR)
        old = row(key)
        # Its own end is before that of the grace, and so stays as the copy knows it.
        rules.rotate(key, DAY)
        with refused("expires_at"):
            rules.change(old, expires_at=timezone.now() + DAY)

    @pytest.mark.parametrize("values", [{"is_active": False}, {"expires_at": timezone.now() - HOUR}])
    def test_that_is_over_is_not_given_back(self, key: APIKey, values: dict[str, Any]) -> None:
        old = row(key)
        APIKey.objects.filter(pk=key.pk).update(**values)
        for copy in (row(key), old):
            with refused():
                rules.change(copy, expires_at=timezone.now() + DAY, name="B")
            with pytest.raises(RotationError):
                rules.rotate(copy)
        assert row(key).objection

    def test_of_a_successor_is_at_most_the_longest(self, key: APIKey) -> None:
        backdate(key, timezone.now() - 2 * LONGEST)
        second = rules.rotate(endless(key), timedelta(0))
        assert isinstance(second.key, Secret)
        assert row(second).expires_at == second.expires_at == second.created_at + LONGEST
        APIKey.objects.filter(pk=key.pk).update(replaced_by=None, expires_at=timezone.now() + 9 * LONGEST)
        third = rules.rotate(row(key), timedelta(0))
        assert row(third).expires_at == third.expires_at == third.created_at + LONGEST

    def test_is_not_stretched_by_the_grace(self, settings: Settings, key: APIKey) -> None:
        for grace in (LONGEST + timedelta(microseconds=1), timedelta.max, timedelta(microseconds=-1)):
            with refused("grace"):
                rules.rotate(key, grace)
        end = key.expires_at
        rules.rotate(key, LONGEST)
        assert row(key).expires_at == end

    def test_may_be_shorter_than_the_usual_grace(self, settings: Settings, anna: User) -> None:
        with_rules(settings, LONGEST_LIFE=HOUR)
        key = rules.create(anna, name="A")
        end = key.expires_at
        rules.rotate(key)
        assert key.expires_at == end

    @pytest.mark.parametrize("use_tz", [True, False])
    def test_is_measured_on_the_clock_of_the_project(self, settings: Settings, anna: User, use_tz: bool) -> None:
        settings.USE_TZ, settings.TIME_ZONE = use_tz, "America/New_York"
        key = rules.create(anna, name="A")
        end = moments.instant(key.created_at) + LONGEST
        assert moments.instant(row(key).expires_at) <= end
        for late in (end + HOUR, moments.local(end + HOUR), moments.local(end + HOUR).replace(tzinfo=None)):
            with refused("expires_at"):
                rules.change(key, expires_at=late)
            with refused("expires_at"):
                rules.create(anna, name="A", expires_at=late + HOUR)
        for early in (end - HOUR, moments.local(end - HOUR).replace(tzinfo=None)):
            assert moments.instant(row(rules.change(key, expires_at=early)).expires_at) == end - HOUR
        assert rules.rotate(key).expires_at is not None


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
