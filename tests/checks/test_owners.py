"""System checks of who may own keys and look after them."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.checks import CheckMessage, registry, run_checks
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.models import CASCADE, ForeignKey, OneToOneField
from django.test.utils import isolate_apps
from django.urls import include, path
from pytest_django import Settings

from keys.checks import owners, selfservice
from keys.models import APIKey
from keys.models import owners as models_of_owners

# Asked one by one, as all of them together take long.
CHECKS: dict[str, Callable[..., list[CheckMessage]]] = {
    "keys.E025": owners.check_owners,
    "keys.E026": owners.check_function_that_allows_owners,
    "keys.E027": owners.check_self_service,
    "keys.E031": selfservice.check_users_may_own_keys,
    "keys.E035": selfservice.check_users_may_own_keys,
    "keys.E037": owners.check_owners_are_the_same_in_each_tenant,
    "keys.W027": owners.check_owners_are_listed,
    "keys.W035": owners.check_no_field_hides_owners,
}


def said(check_id: str, **options: Any) -> list[str]:
    return [str(message) for message in CHECKS[check_id](**options) if message.id == check_id]


def test_manage_py_check_asks_each(settings: Settings) -> None:
    settings.KEYS = {"OWNERS": ["auth.Nosuch"], "OWNER_IS_ALLOWED": "a.b", "SELF_SERVICE": {"OWNERS_OF": "a.b"}}
    assert {message.id for message in run_checks(tags=["keys"])} >= {"keys.E025", "keys.E026", "keys.E027"}
    assert {*CHECKS.values()} <= {*registry.registry.get_checks()}


@pytest.mark.parametrize(
    ("listed", "sentence"),
    [
        ("auth.User", "is not a list of models"),
        (None, "is not a list of models"),
        (["User"], "names 'User', which is not the label of an app, a point and the name of a model."),
        (["auth.models.User"], "names 'auth.models.User', which is not the label of an app"),
        ([User], "is not a list of models"),
        (["auth.Nosuch"], "names 'auth.Nosuch': there is no such model."),
        (["auth.Usr"], "names 'auth.Usr': there is no such model. Did you mean auth.User?"),
        (["nosuch.User"], "names 'nosuch.User': no app in INSTALLED_APPS has the label 'nosuch'."),
        (["ownership.Nobody"], "there is no such model."),
        (["ownership.Seat"], "its primary key is a composite one, which has no text."),
        (["ownership.Blob"], "its primary key is binary, which has no text."),
        (["ownership.Shop", "ownership.OpenShop"], "another model of the same rows."),
        (["keys.APIKey"], "it is the key itself."),
    ],
)
def test_owners_are_models_that_can_own_keys(settings: Settings, listed: Any, sentence: str) -> None:
    settings.KEYS = {"OWNERS": listed}
    (message,) = said("keys.E025")
    assert sentence in message
    settings.KEYS = {"OWNERS": ["auth.User", "auth.user", "ownership.Till", "ownership.OpenShop", "ownership.Hotel"]}
    assert not said("keys.E025")


def test_a_user_that_is_swapped_out_is_told_with_the_one_in_its_place(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.KEYS = {"OWNERS": ["auth.User"]}
    monkeypatch.setattr(User._meta, "swapped", "people.Person")
    models_of_owners._models.cache_clear()
    try:
        (message,) = said("keys.E025")
    finally:
        models_of_owners._models.cache_clear()
    assert "it is swapped out for people.Person. Write settings.AUTH_USER_MODEL for the user." in message


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("no_path", "is not the dotted path of a function"),
        (len, "is not the dotted path of a function"),
        ("nosuch.module.name", "nosuch.module.name, cannot be imported: ModuleNotFoundError"),
        ("tests.ownership.rules.nosuch", "cannot be imported: ImportError"),
        ("tests.ownership.rules.not_a_function", "cannot be called."),
        ("tests.ownership.rules.asynchronous", "is asynchronous, and nobody awaits it."),
        ("tests.ownership.rules.asynchronous_rule", "is asynchronous, and nobody awaits it."),
    ],
)
def test_functions_can_be_called(settings: Settings, function: Any, sentence: str) -> None:
    settings.KEYS = {"OWNER_IS_ALLOWED": function}
    (message,) = said("keys.E026")
    assert sentence in message
    settings.KEYS = {"SELF_SERVICE": {"OWNERS_OF": function}}
    (message,) = said("keys.E027")
    assert sentence in message
    settings.KEYS = {"OWNER_IS_ALLOWED": "tests.ownership.rules.yes", "SELF_SERVICE": {"OWNERS_OF": ""}}
    assert not said("keys.E026")
    assert not said("keys.E027")


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ([], "is not a dictionary"),
        ({"MOST_KEY": 3}, "Did you mean MOST_KEYS?"),
        ({"MOST_KEYS": True}, "is not a number, 1 or more"),
        ({"LONGEST_LIFE": 30}, "is not a timedelta above 0, nor None"),
        ({"SCOPES": ["*"]}, "holds *, which users never give"),
        ({"SCOPES": ["users:raed"]}, "'users:raed' in SCOPES in KEYS[\"SELF_SERVICE\"] is not registered."),
    ],
)
def test_rules_of_self_service_can_be_used(settings: Settings, rules: Any, sentence: str) -> None:
    settings.KEYS = {"SCOPES": {"users:read": "Read."}, "SELF_SERVICE": rules}
    (message,) = said("keys.E027")
    assert sentence in message


@pytest.mark.parametrize("urls", ["urls", "pages"])
def test_users_look_after_keys_only_where_they_may_own_some(settings: Settings, urls: str) -> None:
    settings.KEYS = {"OWNERS": ["auth.Group"]}
    assert not said("keys.E031")
    settings.ROOT_URLCONF = (path("keys/", include(f"keys.selfservice.{urls}")),)
    (message,) = said("keys.E031")
    assert "does not name auth.User" in message
    settings.KEYS = {"OWNERS": ["auth.Group"], "SELF_SERVICE": {"OWNERS_OF": "tests.selfservice.owners.as_queryset"}}
    assert not said("keys.E031")
    # Of what is told elsewhere nothing is said here.
    for keys in ({"OWNERS": ["auth.User"]}, {"OWNERS": ["auth.Nosuch"]}, {"OWNERS": 3}, {}, {"SELF_SERVICE": 3}):
        settings.KEYS = keys
        assert not said("keys.E031")
    settings.KEYS = {"OWNERS": 3}
    assert not said("keys.E035")


@pytest.mark.django_db
def test_keys_whose_owner_is_no_longer_listed_are_told(settings: Settings) -> None:
    def told() -> list[str]:
        return said("keys.W027", databases=[connection.alias])

    settings.KEYS = {"OWNERS": ["auth.User", "auth.Group"]}
    user = User.objects.create()
    for name in "ABCDEFG":
        APIKey.objects.create(name=name, owner_ref=f"auth.user:{user.pk}")
    APIKey.objects.create(name="Group", owner_ref="auth.group:7")
    APIKey.objects.create(name="Inactive", owner_ref=f"auth.user:{user.pk}", is_active=False)
    APIKey.objects.create(name="Free")
    assert told() == []
    settings.KEYS = {"OWNERS": ["auth.Group"]}
    (message,) = told()
    assert "one of these 7 keys is refused" in message
    assert re.search(r"A \(\w{8}\), .*, and 2 more", message)
    assert "Name the model again; or give the keys another owner, or none; or deactivate them." in message
    settings.KEYS = {}
    assert "one of these 8 keys" in told()[0]
    settings.KEYS = {"OWNERS": ["auth.Nosuch"]}
    assert told() == []
    assert said("keys.W027", databases=[]) == []


def test_a_subclass_with_an_owner_of_its_own_is_warned_of(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its keys would look owned, and outlive whoever owns them."""
    with isolate_apps("tests.ownership") as isolated:

        class UserKey(APIKey):
            apikey_ptr = OneToOneField(APIKey, CASCADE, parent_link=True, primary_key=True, related_name="+")
            owner = ForeignKey(User, CASCADE, related_name="+")

            class Meta:
                app_label = "ownership"

    monkeypatch.setattr(owners, "apps", isolated)
    assert said("keys.W035") == []
    settings.KEYS = {"OWNERS": ["auth.User"]}
    (message,) = said("keys.W035")
    assert "ownership.UserKey has a field `owner` of its own" in message


def test_owners_of_keys_that_tenants_share_are_shared_too(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auth.user:7` is somebody else in each schema."""
    settings.KEYS = {"OWNERS": ["auth.User"]}
    settings.TENANT_APPS = ["django.contrib.auth"]
    assert said("keys.E037") == []
    monkeypatch.setattr(connections[DEFAULT_DB_ALIAS], "schema_name", "acme", raising=False)
    (message,) = said("keys.E037")
    assert 'KEYS["OWNERS"] names auth.User, of which each tenant has rows of its own' in message
    for shared in (["django.contrib.auth", "keys"], ["rest_framework"]):
        settings.TENANT_APPS = shared
        assert said("keys.E037") == []
