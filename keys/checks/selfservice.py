"""Checks of what users look after their keys with, where a project has included it."""

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router

from ..authentication import KeyringAuthentication
from ..conf import conf, offered_scopes, self_service, unusable
from ..endpoints import Endpoint, endpoints
from ..models import APIKey, owners
from .views import once_for_each_view

API = "keys.selfservice.api.APIKeyViewSet"
ROOM = "keys.selfservice."


@checks.register("keys")
def check_users_may_own_keys(**kwargs: object) -> list[checks.CheckMessage]:
    found = _first_of_ours()
    if found is None or unusable():  # with any wrong option none can be read
        return []
    if owners.are_on():
        return [] if self_service()["OWNERS_OF"] or _users_are_owners() else [_users_are_missing(found)]
    return [
        checks.Error(
            'Users look after their own keys here, and KEYS["OWNERS"] names nobody who may own some.',
            hint='Write "OWNERS": ["auth.User"], or what settings.AUTH_USER_MODEL is. Until then each request fails.',
            obj=found,
            id="keys.E035",
        )
    ]


@checks.register("keys")
def check_the_number_of_keys_holds(**kwargs: object) -> list[checks.CheckMessage]:
    found = _first_of_ours()
    database = connections[router.db_for_write(APIKey)]
    if found is None or database.vendor != "postgresql" or not database.settings_dict["ATOMIC_REQUESTS"]:
        return []
    if getattr(database.settings_dict["OPTIONS"].get("isolation_level"), "name", "") != "REPEATABLE_READ":
        return []
    return [
        checks.Warning(
            "Users look after their own keys here, in transactions (ATOMIC_REQUESTS) that do not know what others have "
            'made since they began (REPEATABLE READ): MOST_KEYS in KEYS["SELF_SERVICE"] does not hold against requests '
            "at the same time.",
            hint="Use READ COMMITTED, which is Django's, or SERIALIZABLE. Without ATOMIC_REQUESTS it holds in any.",
            obj=found,
            id="keys.W036",
        )
    ]


def _users_are_owners() -> bool:
    try:
        return owners.model_for(get_user_model()) is not None
    except ImproperlyConfigured:
        return True  # nobody can say, and another check tells why


def _users_are_missing(found: Endpoint) -> checks.CheckMessage:
    return checks.Error(
        f'Users look after their own keys here, and KEYS["OWNERS"] does not name {settings.AUTH_USER_MODEL}.',
        hint='Add it, or let "OWNERS_OF" in KEYS["SELF_SERVICE"] say for whom a user may act. Until then each request '
        "fails.",
        obj=found,
        id="keys.E031",
    )


@checks.register("keys")
def check_users_have_scopes_to_give(**kwargs: object) -> list[checks.CheckMessage]:
    found = _first_of_ours()
    if found is None or unusable() or not owners.are_on():
        return []
    # An empty list of one's own says that it is meant.
    if self_service()["SCOPES"] is not None or offered_scopes() or not conf.SCOPES:
        return []
    return [
        checks.Warning(
            "Users look after their own keys here, and have no scope to give: their keys open no view that asks for "
            "one.",
            hint='Name the scopes that they may give in "SCOPES" of KEYS["SELF_SERVICE"]; or [] for none at all.',
            obj=found,
            id="keys.W037",
        )
    ]


@checks.register("keys")
def check_users_get_to_the_api(**kwargs: object) -> list[checks.CheckMessage]:
    return once_for_each_view(
        checks.Warning(
            "This is for users, and its authenticators know none: they read keys, which may not make keys.",
            hint="The authenticators are those of REST_FRAMEWORK. Subclass keys.selfservice.api.APIKeyViewSet to name "
            "others, such as SessionAuthentication, and register it with a router instead of including the urls.",
            obj=endpoint,
            id="keys.W033",
        )
        for endpoint in endpoints()
        if _is_api(endpoint) and not endpoint.overrides("get_authenticators")
        if not any(map(_may_know_users, endpoint.authenticators))
    )


def _first_of_ours() -> Endpoint | None:
    """Return an endpoint where users look after their own keys; None if the project has none."""
    return next(filter(_is_ours, endpoints()), None)


def _is_ours(endpoint: Endpoint) -> bool:
    return _is_api(endpoint) or str(getattr(endpoint.source, "__module__", "")).startswith(ROOM)


def _is_api(endpoint: Endpoint) -> bool:
    # By name: only a project that includes it needs what it imports.
    parts = endpoint.source.__mro__ if isinstance(endpoint.source, type) else ()
    return any(f"{part.__module__}.{part.__name__}" == API for part in parts)


def _may_know_users(authenticator: object) -> bool:
    return not (isinstance(authenticator, type) and issubclass(authenticator, KeyringAuthentication))
