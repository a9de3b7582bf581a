"""Checks of the API with which users look after their keys, where a project has included it."""

from django.core import checks

from ..authentication import KeyringAuthentication
from ..endpoints import Endpoint, endpoints
from .views import once_for_each_view

API = "keys.selfservice.api.APIKeyViewSet"


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


def _is_api(endpoint: Endpoint) -> bool:
    # By name: only a project that includes it needs what it imports.
    parts = endpoint.source.__mro__ if isinstance(endpoint.source, type) else ()
    return any(f"{part.__module__}.{part.__name__}" == API for part in parts)


def _may_know_users(authenticator: object) -> bool:
    return not (isinstance(authenticator, type) and issubclass(authenticator, KeyringAuthentication))
