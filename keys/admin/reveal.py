"""The page that shows new keys once: the answer to the POST that created them. It is stored nowhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from ..models import APIKey
from ..models.fields import stored
from .pages import Pages


@dataclass(frozen=True)
class Revealed:
    """A new key with its secret, and the key it replaces."""

    key: APIKey
    predecessor: APIKey | None = None


def page(admin: Any, request: HttpRequest, made: Sequence[Revealed], **context: Any) -> HttpResponse:
    """Return the page with the new keys. It is rendered now, so that an error rolls back keys that nobody saw."""
    context |= {"made": made, "try_url": request.build_absolute_uri("/")}
    response = answer(admin, request, "admin/keys/apikey/secret.html", context)
    response["Cache-Control"] = "no-store"
    for revealed in made:
        # For what other packages do with the key when the change is committed.
        revealed.key.key = stored(revealed.key.key)
    return response


def answer(admin: Any, request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    """Return a page with the admin's layout."""
    request.current_app = admin.admin_site.name
    return render(request, template, {
        **admin.admin_site.each_context(request), "opts": admin.opts, "media": admin.media,
        "pages": Pages(admin.admin_site, request, admin.opts.model), **context,
    })  # fmt: skip
