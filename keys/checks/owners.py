"""Checks of who may own keys and look after them: `OWNERS`, `OWNER_IS_ALLOWED` and `SELF_SERVICE`."""

from collections.abc import Collection

from django.apps import apps
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.db.models import Q

from ..audit.places import mixes_tenants
from ..conf import SELF_SERVICE, configured, unusable
from ..models import APIKey, owners
from .database import accepted_keys, named
from .options import hint_for, mistakes_of, unregistered, why_not_called


@checks.register("keys")
def check_owners(**kwargs: object) -> list[checks.CheckMessage]:
    said = [(wrong.message, wrong.hint) for wrong in mistakes_of("OWNERS")]
    if not unusable():  # with any wrong option none can be read
        hint = (
            "Write the label of an app in INSTALLED_APPS, a point and the name of a model that has rows, such as "
            '"OWNERS": ["auth.User"].'
        )
        try:
            owners.models()
        except ImproperlyConfigured as error:
            said.append((str(error), hint))
    return [checks.Error(message, hint=hint, id="keys.E025") for message, hint in said]


@checks.register("keys")
def check_function_that_allows_owners(**kwargs: object) -> list[checks.CheckMessage]:
    said = [(wrong.message, wrong.hint) for wrong in mistakes_of("OWNER_IS_ALLOWED")]
    if not said:
        said.extend(why_not_called(configured()["OWNER_IS_ALLOWED"], 'KEYS["OWNER_IS_ALLOWED"]', "(owner) -> bool", 1))
    return [checks.Error(message, hint=hint, id="keys.E026") for message, hint in said]


@checks.register("keys")
def check_self_service(**kwargs: object) -> list[checks.CheckMessage]:
    said = [(wrong.message, wrong.hint) for wrong in mistakes_of("SELF_SERVICE")]
    if not said:
        held = {**SELF_SERVICE, **configured()["SELF_SERVICE"]}
        where = 'in KEYS["SELF_SERVICE"]'
        said.extend(why_not_called(held["OWNERS_OF"], f"OWNERS_OF {where}", "(user) -> owners", 1))
        for scope in unregistered(held["SCOPES"] or ()):
            said.append((f"{scope!r} in SCOPES {where} is not registered.", hint_for(scope)))
    return [checks.Error(message, hint=hint, id="keys.E027") for message, hint in said]


@checks.register(checks.Tags.database, "keys")
def check_owners_are_listed(databases: Collection[str] | None = None, **kwargs: object) -> list[checks.CheckMessage]:
    try:
        labels = [*owners.models()]
    except ImproperlyConfigured:
        return []  # told already
    of_listed = Q(*[("owner_ref__startswith", f"{label}:") for label in labels], _connector=Q.OR)
    keys = accepted_keys(databases).exclude(owner_ref="")
    keys = keys.exclude(of_listed) if labels else keys
    return [
        checks.Warning(
            f'Each request with one of these {keys.count()} keys is refused, as KEYS["OWNERS"] does not name the model '
            f"of its owner: {names}.",
            hint="Name the model again; or give the keys another owner, or none; or deactivate them.",
            id="keys.W027",
        )
        for names in named(keys)
    ]


@checks.register("keys")
def check_owners_are_the_same_in_each_tenant(**kwargs: object) -> list[checks.CheckMessage]:
    try:
        listed = owners.models().values()
    except ImproperlyConfigured:
        return []  # told already
    keys = connections[router.db_for_write(APIKey)]
    return [
        checks.Error(
            f'KEYS["OWNERS"] names {model._meta.label}, of which each tenant has rows of its own, while all tenants'
            " share the keys: a key would be somebody else's in each.",
            hint="Let each tenant have keys of its own (TENANT_APPS), or let owners be of a model that all share.",
            id="keys.E037",
        )
        for model in listed
        if mixes_tenants(keys, model._meta.app_label)
    ]


@checks.register("keys")
def check_no_field_hides_owners(**kwargs: object) -> list[checks.CheckMessage]:
    if unusable() or not owners.are_on():
        return []
    return [
        checks.Warning(
            f"{model._meta.label} has a field `owner` of its own, which hides whose key it is: at a use nobody asks for"
            " the owner that the field names, and a rotation does not copy it.",
            hint="Give the field another name, or write its values into owner_ref and remove it.",
            obj=model,
            id="keys.W035",
        )
        for model in apps.get_models()
        if issubclass(model, APIKey) and any(field.name == "owner" for field in model._meta.local_fields)
    ]
