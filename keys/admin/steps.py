"""Rotating and deactivating keys: a page that shows who still uses them, then the action."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db import router, transaction
from django.db.models import F, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from .. import actor
from ..audit.reports import retirement
from ..models import APIKey, RotationError, owners
from ..models.fields import Digest
from . import activity, reveal
from .filters import known
from .finding import row_id
from .pages import Pages, address
from .step_forms import ReasonForm, RotateForm

ROTATED_AT_ONCE = 20  # a person must install each new key before the old one ends
LOOKED_INTO = 20  # for more keys, only the last use of each is shown
CLIENTS_SHOWN = 5
CLIENTS_DAYS = 7


@contextmanager
def in_transactions() -> Iterator[None]:
    """Begin a transaction in each database that a step writes to: the keys', and the one of the admin's history."""
    # The keys' is the outermost and is committed last: nobody may hold a key whose page could not be finished.
    models = (APIKey, LogEntry, get_user_model())
    with ExitStack() as stack:
        for alias in dict.fromkeys(router.db_for_write(model) for model in models):
            stack.enter_context(transaction.atomic(using=alias))
        yield


def acting(request: HttpRequest) -> Any:
    """Record the member of staff who sent the request as the actor of its changes, without the middleware, too."""
    return actor.answering(request)


def can_be_rotated(key: APIKey) -> bool:
    """Tell whether the key can get a successor: it is accepted, and has none yet."""
    return key.state in {"active", "expiring"}


def is_refused_with_owner(key: APIKey) -> bool:
    """Tell whether the key has an owner whose keys are refused, as far as that can be known now."""
    if not key.owner_ref:
        return False
    try:
        return not owners.may_have_keys(owners.of(key))
    except owners.OwnerUnknownError:
        return False


class LifeCycleSteps:
    """The list's actions, and the buttons of a key's page, that rotate and deactivate keys."""

    opts: Any
    admin_site: Any

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        return [
            path("rotate/", view(self.rotate_view), name=f"{name}_rotate"),
            path("deactivate/", view(self.deactivate_view), name=f"{name}_deactivate"),
            *super().get_urls(),  # type: ignore[misc]
        ]

    def has_rotate_permission(self, request: HttpRequest, obj: APIKey | None = None) -> bool:
        """Tell whether the user may rotate: that adds a key, and changes another."""
        return self.has_add_permission(request) and self.has_change_permission(request, obj)  # type: ignore[attr-defined,no-any-return]

    @admin.action(permissions=["rotate"], description=gettext_lazy("Rotate selected %(verbose_name_plural)s"))
    def rotate_selected(self, request: HttpRequest, queryset: QuerySet[APIKey]) -> HttpResponse | None:
        keys = list(queryset)
        if self._are_too_many(request, keys):
            return None
        return self._confirm(request, "rotate", keys, form=RotateForm())

    def _are_too_many(self, request: HttpRequest, keys: Sequence[APIKey]) -> bool:
        if are_too_many := len(keys) > ROTATED_AT_ONCE:
            text = _("Rotate at most %(number)d keys at once: each new key must reach its service in time.")
            messages.error(request, text % {"number": ROTATED_AT_ONCE})
        return are_too_many

    @admin.action(permissions=["change"], description=gettext_lazy("Deactivate selected %(verbose_name_plural)s"))
    def deactivate_selected(self, request: HttpRequest, queryset: QuerySet[APIKey]) -> HttpResponse:
        return self._confirm(request, "deactivate", list(queryset), form=ReasonForm())

    def rotate_view(self, request: HttpRequest) -> HttpResponse:
        """Ask for the grace, then rotate and show the new keys in the answer to that POST."""
        keys = self._chosen(request)
        if not all(self.has_rotate_permission(request, key) for key in keys):
            raise PermissionDenied
        if self._are_too_many(request, keys):
            return HttpResponseRedirect(address(self.admin_site, self.opts.model, "changelist"))
        form = RotateForm(request.POST if request.method == "POST" else None)
        if not form.is_valid():
            return self._confirm(request, "rotate", keys, form=form)
        with in_transactions(), acting(request):
            return self._rotate(request, keys, **form.cleaned_data)

    def _rotate(self, request: HttpRequest, keys: Sequence[APIKey], grace: timedelta, reason: str) -> HttpResponse:
        made, done_before, refused = [], [], []
        for key in keys:
            try:
                successor = key.rotate(grace, reason=reason)
            except RotationError as error:
                refused.append((key, error))
                continue
            if isinstance(successor.key, Digest):
                done_before.append((key, successor))
            else:
                self.log_change(request, key, _("Rotated; the successor is %(key)s.") % {"key": successor})  # type: ignore[attr-defined]
                self.log_addition(request, successor, _("Made by rotating %(key)s.") % {"key": key})  # type: ignore[attr-defined]
                made.append(reveal.Revealed(successor, key))
        title = _("Rotated") if made else _("Nothing was rotated")
        return reveal.page(self, request, made, title=title, done_before=done_before, refused=refused)

    def deactivate_view(self, request: HttpRequest) -> HttpResponse:
        """Ask, then refuse the keys from the next request on."""
        keys = self._chosen(request)
        if not all(self.has_change_permission(request, key) for key in keys):  # type: ignore[attr-defined]
            raise PermissionDenied
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if not form.is_valid():
            return self._confirm(request, "deactivate", keys, form=form)
        with in_transactions(), acting(request):
            active = [key for key in keys if key.is_active]
            for key in active:
                key.deactivate(form.cleaned_data["reason"])
                self.log_change(request, key, _("Deactivated."))  # type: ignore[attr-defined]
        number = len(active)
        text = ngettext(
            "%(number)d key is refused from now on.", "%(number)d keys are refused from now on.", number
        )  # fmt: skip
        messages.success(request, text % {"number": number})
        return HttpResponseRedirect(address(self.admin_site, self.opts.model, "changelist"))

    def _chosen(self, request: HttpRequest) -> list[APIKey]:
        """Return the keys of `keys`: their ids, separated by commas. Raises Http404 if a part is no id."""
        asked = (request.POST if request.method == "POST" else request.GET).get("keys", "")
        texts = asked.split(",")
        ids = [pk for text in texts if (pk := row_id(text)) is not None]
        # A project's subclass may show each person some of the keys only.
        shown = self.get_queryset(request)  # type: ignore[attr-defined]
        if len(ids) < len(texts) or not (keys := list(shown.filter(pk__in=ids))):
            raise Http404
        return keys

    def _confirm(self, request: HttpRequest, step: str, keys: Sequence[APIKey], **context: Any) -> HttpResponse:
        context |= (
            {"lines": self._lines(request, keys)} if len(keys) <= LOOKED_INTO else {"many": self._many(request, keys)}
        )
        question = _("Rotate %(what)s?") if step == "rotate" else _("Deactivate %(what)s?")
        several = ngettext("%(number)d key", "%(number)d keys", len(keys))
        title = question % {"what": keys[0] if len(keys) == 1 else several % {"number": len(keys)}}
        pages = Pages(self.admin_site, request, self.opts.model)
        back_url = pages.key(keys[0].pk) if len(keys) == 1 else ""
        back_url = back_url or address(self.admin_site, self.opts.model, "changelist")
        context |= {"step": step, "title": title, "number": len(keys), "keys": ",".join(str(key.pk) for key in keys)}
        context |= {"action_url": address(self.admin_site, self.opts.model, step), "back_url": back_url}
        return reveal.answer(self, request, f"admin/keys/apikey/{step}.html", context)

    def _lines(self, request: HttpRequest, keys: Sequence[APIKey]) -> list[dict[str, Any]]:
        """Return what the log says about the use of each key."""
        used, log = activity.clients([key.pk for key in keys], CLIENTS_DAYS), known(request)
        since = timezone.now() - timedelta(days=CLIENTS_DAYS)
        return [
            {
                "key": key,
                "can_be_rotated": can_be_rotated(key),
                "owner_refuses": is_refused_with_owner(key),
                "sentence": retirement(key, log).sentence,
                "read_since": used[key.pk].read_since,
                "clients": used[key.pk].found[:CLIENTS_SHOWN],
                "is_known": log.knows(since) or log.knows(key.created_at),
                "more": max(len(used[key.pk].found) - CLIENTS_SHOWN, 0),
            }
            for key in keys
        ]

    def _many(self, request: HttpRequest, keys: Sequence[APIKey]) -> list[APIKey]:
        """Return the keys with their last use, the latest first."""
        listed = APIKey.objects.with_last_used().filter(pk__in=[key.pk for key in keys])
        ordered = list(listed.order_by(F("last_used").desc(nulls_last=True), "name"))
        for key in ordered:
            key.reach = known(request)  # type: ignore[attr-defined]
        return ordered
