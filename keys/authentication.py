"""Authentication for Django REST framework, with the decisions of `verification`."""

import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, ClassVar
from urllib.parse import quote

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model
from django.db.models.manager import EmptyManager
from django.http import HttpRequest
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from . import denials, environment
from .actor import Service, act_by_key, acting_key
from .audit.places import number_in
from .keyrings import DatabaseKeyring, EnvironmentKey, EnvironmentKeyring, Holder, Keyring, LegacyKey
from .models import APIKey, owners
from .verification import Guard, Use, use_of
from .verification.decisions import keep_out_of_caches

CODES = {400: "conflict", 401: exceptions.AuthenticationFailed.default_code, 503: "unavailable"}


class _NoRows(EmptyManager[Any]):
    """What a service has of a relation of Django's users, also for code that prefetches it."""

    def __init__(self, model_name: str, relation: str) -> None:
        super().__init__(apps.get_model("auth", model_name))
        self.relation = relation

    def get_prefetch_querysets(self, instances: Any, querysets: Any = None) -> tuple[Any, ...]:
        def same(_: Any) -> None:
            return None

        return self.none(), same, same, False, self.relation, False


class ServicePrincipal(Service):
    """`request.user` of a request with a key: a service. Authenticated, but no database user, with no permissions.

    `pk` is a text that no user has: `key:7`, `env:INTERNAL_API_KEY`, `legacy:tokens.token:7` for a key of another
    system, and `name:` with the name of any other. It does not change when the key is rotated, so counters by it, such
    as Django REST framework's own throttles, go on. `username`, which `str()` gives
    too, is `key:` and the key's name: Django allows no colon in the name of a user, so a key named `admin` is never
    taken for the user `admin`. Two principals of the same key are equal.
    """

    is_authenticated = True
    is_active = True
    is_anonymous = False
    is_staff = False
    is_superuser = False

    def __init__(self, holder: Holder) -> None:
        self.username = holder.actor_name if isinstance(holder, Service) else f"key:{holder.name}"
        self.pk = self.id = _pk_of(holder)

    @property
    def actor_name(self) -> str:
        return self.username

    def __str__(self) -> str:
        return self.username

    def __repr__(self) -> str:
        # Django shows it where the principal is assigned to a relation, or looked up in one.
        return f"<ServicePrincipal {self.username}: a service, not a database user>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ServicePrincipal) and self.pk == other.pk

    def __hash__(self) -> int:
        return hash(self.pk)

    @property
    def groups(self) -> EmptyManager[Any]:
        """No groups, in the form in which Django's users have theirs."""
        return _NoRows("Group", "groups")

    @property
    def user_permissions(self) -> EmptyManager[Any]:
        """No permissions, in the form in which Django's users have theirs."""
        return _NoRows("Permission", "user_permissions")

    def get_username(self) -> str:
        return self.username

    def get_full_name(self) -> str:
        return self.username

    def get_short_name(self) -> str:
        return self.username

    def get_user_permissions(self, obj: Any = None) -> set[str]:
        return set()

    def get_group_permissions(self, obj: Any = None) -> set[str]:
        return set()

    def get_all_permissions(self, obj: Any = None) -> set[str]:
        return set()

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        return False

    def has_perms(self, perm_list: Any, obj: Any = None) -> bool:
        return False

    def has_module_perms(self, app_label: str) -> bool:
        return False

    async def aget_user_permissions(self, obj: Any = None) -> set[str]:
        return set()

    async def aget_group_permissions(self, obj: Any = None) -> set[str]:
        return set()

    async def aget_all_permissions(self, obj: Any = None) -> set[str]:
        return set()

    async def ahas_perm(self, perm: str, obj: Any = None) -> bool:
        return False

    async def ahas_perms(self, perm_list: Any, obj: Any = None) -> bool:
        return False

    async def ahas_module_perms(self, app_label: str) -> bool:
        return False


def _pk_of(holder: Holder) -> str:
    """Return a text that the holder of no other key has. A name is chosen by people, and may look like a number."""
    if isinstance(holder, APIKey):
        return f"key:{number_in(holder)}"
    if isinstance(holder, EnvironmentKey) and holder.name.startswith(environment.PREFIX):
        return holder.name
    # Not every cache takes a blank in its keys.
    if isinstance(holder, LegacyKey):
        return f"legacy:{quote(holder.number, safe=':')}"
    return f"name:{quote(holder.name)}"


def user_for(holder: Holder, guard: Guard) -> Any:
    """Return `request.user` of a request with a good key: the service, or the owner for whom the guard lets it act."""
    service = ServicePrincipal(holder)
    if not guard.acts_as_owner or not getattr(holder, "owner_ref", ""):
        return service
    owner = owners.of(holder)  # remembered since the key was checked
    if owner is None or not is_user(type(owner)):
        return service
    act_by_key(owner, service.username)
    return owner


def is_user(model: type[Model]) -> bool:
    """Tell whether instances of the model are users of the project; nobody is in one without users."""
    try:
        return issubclass(model, get_user_model())
    except ImproperlyConfigured:
        return False


def set_user(request: HttpRequest, user: Any) -> None:
    """Set `request.user` and `request.auser` of Django's own request, for this request alone."""
    request.user = user
    request.auser = partial(_known, user)
    _tell_auditlog(user)


async def _known(user: Any) -> Any:
    return user


def _tell_auditlog(user: Any) -> None:
    """Let django-auditlog store this user; it looks for one before the view, and stores none for a service."""
    auditlog = sys.modules.get("auditlog.context")  # only what the project has imported
    context = None if auditlog is None else auditlog.auditlog_value.get(None)
    if context is not None:
        context["actor"] = user


class KeyRefused(exceptions.APIException):
    """The answer to a refused key, with the status from `verification`.

    Its code is `authentication_failed` for 401, `conflict` for 400 and `unavailable` for 503. Not
    `AuthenticationFailed`, which Django REST framework turns into 403 if the first authenticator has no challenge.
    """

    def __init__(self, use: Use) -> None:
        self.status_code, self.default_code = use.status, CODES[use.status]
        super().__init__(use.detail)
        self.auth_header = use.guard.challenge if use.status == 401 else None


class KeyringAuthentication(BaseAuthentication):
    """Authenticates requests by a key from one of `keyrings`, tried in order.

    Subclass it to accept several kinds of key in one header. The key is read from `header` and, with `keyword`,
    from `Authorization`; each is one name or several. After the keyword `Basic` the key is the password, and the user
    is ignored. `refused_detail` is the text of a 401, `not_configured_detail` that of the 503 if no keyring is
    configured. With `answers_missing`, a request without a key gets `refused_detail` too, instead of the next
    authenticator.

    With `leaves_unknown`, a key that no keyring knows goes on to the next authenticator, as a request without a key
    does: it may be another system's, in the same header. It is recorded as refused if the answer is 401.

    With `acts_as_owner`, `request.user` is the owner of the key where that is a user of the project, and a
    `ServicePrincipal` otherwise; `request.auth` is the key in any case. Whatever looks at the user (`IsAdminUser`,
    `DjangoModelPermissions`, throttles, histories) then sees the owner, with all of the owner's permissions: a
    superuser's key may all that the view allows. Only scopes limit it, so ask for them: `HasScope("orders:write")`.
    """

    header: ClassVar[str | Sequence[str]] = "X-API-Key"
    keyword: ClassVar[str | Sequence[str] | None] = None
    keyrings: ClassVar[tuple[Keyring, ...]] = ()
    refused_detail: ClassVar[str] = "Invalid API key."
    not_configured_detail: ClassVar[str] = "API key not configured"
    answers_missing: ClassVar[bool] = False
    acts_as_owner: ClassVar[bool] = False
    leaves_unknown: ClassVar[bool] = False
    guard: ClassVar[Guard] = Guard(keyrings=())

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.guard = Guard(
            header=cls.header,
            keyword=cls.keyword,
            keyrings=cls.keyrings,
            refused_detail=cls.refused_detail,
            not_configured_detail=cls.not_configured_detail,
            answers_missing=cls.answers_missing,
            acts_as_owner=cls.acts_as_owner,
            leaves_unknown=cls.leaves_unknown,
        )

    def authenticate(self, request: Request) -> tuple[Any, Holder] | None:
        """Return the user and the key; None if none was presented, or it is left to others. Raises KeyRefused."""
        if (given := _given(request)) is not None:
            return given
        keep_out_of_caches(request)
        use = use_of(request._request, self.guard)
        if use is None:
            return None
        if use.is_left:
            denials.watch_left(request, use, KeyRefused)
            return None
        if use.holder is None or not use.is_good:
            raise KeyRefused(use)
        user = user_for(use.holder, self.guard)
        _tell_auditlog(user)
        return user, use.holder

    def authenticate_header(self, request: Request) -> str:
        return self.guard.challenge


def _given(request: Request) -> tuple[Any, Holder] | None:
    """Return what code has put on a request of its own, as drf-spectacular does to ask what a caller may do.

    Where that is denied, Django REST framework asks who authenticated the request. That is no use of the key.
    """
    held = request.__dict__
    if "_auth" not in held or "_authenticator" in held:
        return None
    user, holder = held.get("_user"), held["_auth"]
    is_of_key = isinstance(user, ServicePrincipal) and holder is not None
    is_of_owner = isinstance(holder, APIKey | EnvironmentKey | LegacyKey) and bool(acting_key(user))
    return (user, holder) if is_of_key or is_of_owner else None


class APIKeyAuthentication(KeyringAuthentication):
    """Keys from the database, in `X-API-Key: <key>` or `Authorization: Api-Key <key>`."""

    keyword: ClassVar[str | Sequence[str] | None] = "Api-Key"
    keyrings = (DatabaseKeyring(),)


class EnvironmentKeyAuthentication(KeyringAuthentication):
    """Keys from environment variables, e.g. a dedicated one that falls back to a shared one.

    Set `variables`, in order of priority, and if needed `header` and the texts.
    """

    variables: ClassVar[tuple[str, ...]] = ()
    answers_missing = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "keyrings" not in cls.__dict__:
            # Letter by letter, a text would name variables too: the guard refuses it.
            variables: Any = cls.variables
            is_list = isinstance(variables, Iterable) and not isinstance(variables, str)
            cls.keyrings = tuple(map(EnvironmentKeyring, variables)) if is_list else variables
        super().__init_subclass__(**kwargs)
