"""Which scope is granted by which."""

from typing import Any

import pytest

from keys import scopes


@pytest.mark.parametrize("scope", ["users:read", "users:*", "*", "a.b-c_d:E.f", "0:0"])
def test_resource_action_and_the_two_wildcards_are_scopes(scope: str) -> None:
    assert scopes.is_well_formed(scope)


@pytest.mark.parametrize(
    "scope",
    [
        *("", "users", "users:", ":read", "*:read", "*:*", "users:read:all", "users:re*", "users read", " users:read"),
        *("users:read\n", "users:réad", "users:read,users:write", "**"),
    ],
)
def test_anything_else_is_not(scope: str) -> None:
    assert not scopes.is_well_formed(scope)


@pytest.mark.parametrize(
    "held",
    [["users:read"], ["jobs:run", "users:read"], ["users:*"], ["*"], ("users:read",)],
    ids=str,
)
def test_a_scope_is_granted_by_its_name_and_by_wildcards(held: Any) -> None:
    assert scopes.grants(held, "users:read")


@pytest.mark.parametrize(
    "held",
    [[], ["users:write"], ["user:*"], ["users"], ["users:rea"], ["USERS:READ"], ["users:reader"], ["us*"], ["*:read"]],
    ids=str,
)
def test_and_by_nothing_else(held: list[str]) -> None:
    assert not scopes.grants(held, "users:read")


@pytest.mark.parametrize("held", ["users:read", "users:*", "*", "", None, {"users:read": True}, 7], ids=repr)
def test_what_is_no_list_grants_nothing(held: Any) -> None:
    """A row that raw SQL wrote may hold any JSON; text would be searched for the scope, and `users:*` for `*`."""
    assert not scopes.grants(held, "users:read")


def test_a_narrow_key_does_not_hold_a_wide_scope() -> None:
    assert not scopes.grants(["users:read", "users:*"], "*")
    assert not scopes.grants(["users:read"], "users:*")
    assert scopes.grants(["*"], "users:*")


REGISTRY = {"users:read": "Read users.", "jobs:run": "Run jobs."}


def test_the_registry_knows_its_scopes_and_their_wildcards() -> None:
    assert scopes.unknown(["users:read", "jobs:run", "users:*", "*"], REGISTRY) == []
    assert scopes.unknown(["users:write", "users:read", "mail:*"], REGISTRY) == ["users:write", "mail:*"]


def test_without_a_registry_any_scope_goes() -> None:
    assert scopes.unknown(["mail:send"], {}) == []
