"""The page that shows new keys, once: the answer to the POST that made them, kept nowhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from .. import scopes
from ..endpoints import Endpoint, endpoints
from ..keyrings import DatabaseKeyring
from ..models import APIKey
from ..permissions import HasScope


@dataclass(frozen=True)
class Revealed:
    """A new key, which carries its secret, and the one it replaces."""

    key: APIKey
    predecessor: APIKey | None = None


def page(admin: Any, request: HttpRequest, made: Sequence[Revealed], **context: Any) -> HttpResponse:
    """Return the page with the new keys, rendered now, so that a failure undoes what nobody would have seen."""
    context |= {"made": made, "try_url": request.build_absolute_uri(path_to_try([one.key for one in made]))}
    response = answer(admin, request, "admin/keys/apikey/secret.html", context)
    response["Cache-Control"] = "no-store"
    return response


def answer(admin: Any, request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    """Return a page of the admin's own look."""
    request.current_app = admin.admin_site.name
    return render(request, template, {
        **admin.admin_site.each_context(request), "opts": admin.opts, "media": admin.media, **context,
    })  # fmt: skip


def path_to_try(keys: Sequence[APIKey]) -> str:
    """Return the path of a view that every one of these keys opens, or `/` where none is sure to be."""
    for endpoint in endpoints():
        if _is_simple(endpoint) and all(_opens(key, endpoint) for key in keys):
            return f"/{endpoint.route}"
    return "/"


def _is_simple(endpoint: Endpoint) -> bool:
    """Tell whether a GET without any argument reaches the view, and a key in the database may open it."""
    has_get = hasattr(getattr(endpoint.view, "cls", None) or getattr(endpoint.view, "view_class", None), "get")
    takes_nothing = not any(char in endpoint.route for char in "<(^$")
    return has_get and takes_nothing and any(isinstance(ring, DatabaseKeyring) for ring in endpoint.keyrings)


def _opens(key: APIKey, endpoint: Endpoint) -> bool:
    permissions = [one for one in endpoint.permissions if isinstance(one, type) and issubclass(one, HasScope)]
    asked = [scope for permission in permissions for scope in permission.scopes]
    return all(scopes.grants(key.scopes, scope) for scope in asked)
