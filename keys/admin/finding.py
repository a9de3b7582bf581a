"""A search box that accepts a whole key.

The box is sent as a POST. A key in it is looked up by its digest, and the answer redirects to its page. Only a text
that cannot be a secret goes into a query string, and so into the browser's history and the server's log.
"""

import re
from typing import Any

from django.contrib import messages
from django.contrib.admin.views.main import PAGE_VAR, SEARCH_VAR
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_POST

from .. import tokens
from ..models import APIKey
from .pages import Pages, address

# Longer than a part of a UUID, so that a part of a key is no search text.
_SECRET = re.compile(r"[0-9a-fA-F]{33}")
# The ids of requests and of owners.
_UUID = re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")
_AROUND = re.compile(r"[\s\"'`,;]+")

# A command line with a key fits. A text longer than a URL may be is no search text.
LONGEST = 500
# The parameter with the position in the list; a new search starts at the top.
BEFORE = "before"
BEGINS_ANEW = (PAGE_VAR, BEFORE)


def row_id(text: str) -> int | None:
    """Return the row id in a URL or a form; None if no row can have it."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def holds_a_secret(text: str) -> bool:
    """Tell whether the text may be a key, a part of one, or a line that contains one."""
    words = _AROUND.split(_UUID.sub(" ", text))
    return _SECRET.search(text) is not None or any(
        tokens.looks_random(word) for word in words if len(word) > tokens.LONGEST_VISIBLE
    )


class SecretSafeSearch:
    """For an admin whose search box accepts keys. A key that is found redirects to `address_of`."""

    opts: Any
    admin_site: Any

    not_found = gettext_lazy("No key has this value: it was never made here, or has been deleted.")

    def is_other_id(self, text: str) -> bool:
        """Tell whether a text that may be a key is the id of something else, which an address may hold."""
        return False

    def address_of(self, key: APIKey) -> str:
        """Return the URL that shows a key that was searched for."""
        raise NotImplementedError

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.search_view)
        name = f"{self.opts.app_label}_{self.opts.model_name}_search"
        return [path("search/", view, name=name), *super().get_urls()]  # type: ignore[misc]

    @method_decorator(sensitive_post_parameters(SEARCH_VAR))
    @method_decorator(require_POST)
    def search_view(self, request: HttpRequest) -> HttpResponse:
        """Answer the search box: with the list filtered by a text, or with the key that was pasted."""
        if not self.has_view_or_change_permission(request):  # type: ignore[attr-defined]
            raise PermissionDenied
        return self.redirect(request, request.POST)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        # A URL written by hand: at least do not repeat the secret in the page's links.
        if self._may_be_secret(request.GET.get(SEARCH_VAR, "")):
            if not self.has_view_or_change_permission(request):  # type: ignore[attr-defined]
                raise PermissionDenied
            return self.redirect(request, request.GET)
        carried = request.GET.copy()
        for name in (SEARCH_VAR, *BEGINS_ANEW):
            carried.pop(name, None)
        context = {
            "search_url": self._address("search"),
            "search_params": [(name, value) for name, values in carried.lists() for value in values],
            "clear_search_url": f"?{carried.urlencode()}",
            "pages": Pages(self.admin_site, request, self.opts.model),
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)  # type: ignore[misc,no-any-return]

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changes = super().get_changelist_instance(request)  # type: ignore[misc]
        # Themes draw search boxes of their own for these fields. They send a GET, and so a key into an address.
        changes.search_fields = ()
        return changes

    def _address(self, page: str) -> str:
        return address(self.admin_site, self.opts.model, page)

    @sensitive_variables()
    def _may_be_secret(self, text: str) -> bool:
        return holds_a_secret(text) and not self.is_other_id(text)

    @sensitive_variables()
    def redirect(self, request: HttpRequest, asked: Any) -> HttpResponseRedirect:
        """Redirect to the result. The URL never contains a text that may be a secret."""
        text = asked.get(SEARCH_VAR, "").strip()[:LONGEST].removesuffix("…")  # with which a beginning is shown
        if text and (key := APIKey.objects.all().pasted_in(text)) is not None:
            return HttpResponseRedirect(self.address_of(key))
        rest = asked.copy()
        for name in ("csrfmiddlewaretoken", *BEGINS_ANEW):
            rest.pop(name, None)
        rest[SEARCH_VAR] = text
        may_be_secret = self._may_be_secret(text)
        if not text or may_be_secret:
            rest.pop(SEARCH_VAR)
        if may_be_secret:
            messages.warning(request, self.not_found)
        listing = self._address("changelist")
        return HttpResponseRedirect(f"{listing}?{rest.urlencode()}" if rest else listing)
