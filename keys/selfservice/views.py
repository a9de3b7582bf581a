"""The pages: they translate between people and `rules`, which decides everything."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.db import router, transaction
from django.db.models import Max
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import get_script_prefix
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_http_methods

from .. import actor
from ..audit.reports import retirement
from ..models import APIKey, AuditEvent, RotationError, StaleKeyError
from ..models.fields import stored
from ..models.owners import OwnerUnknownError
from ..verification import is_from_person
from . import rules
from .forms import ChangeForm, CreateForm, DeactivateForm, RotateForm
from .layout import Links, show
from .locks import locked
from .shown import Shelf, ShownKey
from .usage import clients

A_PAGE = 50
PERIODS = (7, 30, 90)
USUAL_PERIOD, LATELY, CLIENTS_LATELY = 30, 7, 5

UNKNOWN = gettext_lazy("It cannot be told now whether you may have one more key. Try again later.")
STALE = gettext_lazy("Somebody else changed it while you did. Nothing was saved.")

View = Callable[..., HttpResponse]


def for_people(*methods: str) -> Callable[[View], View]:
    """Open the view to people who are logged in, and to no key. Nothing keeps its answer."""

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not is_from_person(request):
                raise PermissionDenied
            # Without the middleware, too, the user of the request is the actor of its changes.
            with actor.answering(request):
                return view(request, *args, **kwargs)

        opened: View = never_cache(csrf_protect(login_required(require_http_methods(methods)(guarded))))
        return opened

    return decorate


@for_people("GET", "HEAD")
def list_keys(request: HttpRequest) -> HttpResponse:
    """Show the user's keys, those that are accepted first; `?owner=` narrows them to one of the user's owners."""
    shelf = Shelf(request)
    chosen = shelf.chosen(request.GET.get("owner", ""))
    page = Paginator(shelf.keys(chosen), A_PAGE).get_page(request.GET.get("page"))
    page.object_list = shelf.shown(page.object_list)
    choices = shelf.labels() if shelf.has_several_owners else {}
    return show(request, "list", shelf=shelf, page=page, chosen=chosen, choices=choices, **_pages(request, page))


def _pages(request: HttpRequest, page: Any) -> dict[str, str]:
    def to(number: int) -> str:
        asked = request.GET.copy()
        asked["page"] = str(number)
        return f"?{asked.urlencode()}"

    return {
        "previous_url": to(page.number - 1) if page.has_previous() else "",
        "next_url": to(page.number + 1) if page.has_next() else "",
    }


@for_people("GET", "HEAD", "POST")
def create_key(request: HttpRequest) -> HttpResponse:
    """Make one key for each rendering of the form, however often it is sent, and show it in the answer."""
    shelf = Shelf(request)
    options: dict[str, Any] = {"owners": shelf.labels()}
    if request.method != "POST":
        latest = shelf.mine.aggregate(latest=Max("pk"))["latest"] or 0
        options["chosen"] = shelf.chosen(request.GET.get("owner", ""))
        return show(request, "create", form=CreateForm(initial={"after": latest}, **options), shelf=shelf)
    form = CreateForm(request.POST, **options)
    if form.is_valid():
        try:
            return _create(request, form, shelf)
        except ValidationError as error:
            form.refuse(error)
        except OwnerUnknownError:
            form.add_error(None, UNKNOWN)
    return show(request, "create", form=form, shelf=shelf)


def _create(request: HttpRequest, form: CreateForm, shelf: Shelf) -> HttpResponse:
    asked, owner = form.cleaned_data, form.chosen_owner
    # Locked, so that the second of two simultaneous clicks finds the first one's key.
    with locked(owner) if owner else nullcontext():
        if (made := _made_before(shelf.mine, owner, asked["after"], asked["name"])) is not None:
            return show(request, "made_before", shown=shelf.shown([made])[0], name=asked["name"])
        key = rules.create(
            request.user, name=asked["name"], owner=owner, scopes=asked.get("scopes", []),
            expires_at=form.expires_at, allowed_ips=asked["allowed_ips"],
        )  # fmt: skip
        return _reveal(request, key)


def _made_before(mine: Any, owner: str, after: int | None, name: str) -> APIKey | None:
    """Return the key of this name that was made since the form was, by sending it; None if there is none.

    The log knows it even if it has another name by now. A program that sends no `after` may send as often as it likes.
    """
    if after is None:
        return None
    # A successor has the name of its predecessor, and another page made it.
    newer = mine.of_owner(owner).filter(pk__gt=after, predecessor=None)
    ids = list(newer.values_list("pk", flat=True))
    creations = AuditEvent.objects.written().filter(api_key__in=ids, event=AuditEvent.Event.CREATED)
    made = [row["api_key"] for row in creations.values("api_key", "key_name") if row["key_name"] == name.strip()]
    found: APIKey | None = newer.filter(pk__in=made).order_by("pk").first()
    return found


def _reveal(request: HttpRequest, key: APIKey, predecessor: APIKey | None = None) -> HttpResponse:
    """Show a new key with its secret, once: nothing else holds it. Called within the transaction that makes it."""
    links = Links(request)
    context: dict[str, Any] = {"predecessor": ShownKey(predecessor, links)} if predecessor is not None else {}
    context["try_url"] = request.build_absolute_uri(get_script_prefix())
    response = show(request, "secret", shown=ShownKey(key, links), **context)
    # For what other packages do with the key when the change is committed.
    key.key = stored(key.key)
    return response


@for_people("GET", "HEAD")
def show_key(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one key, and who used it in the last `?days=`."""
    found, shelf = _find(request, pk)
    asked = request.GET.get("days", "")
    days = next((days for days in PERIODS if str(days) == asked), USUAL_PERIOD)
    return show(
        request, "key", shown=shelf.shown([found])[0], clients=clients(found, days), periods=PERIODS,
        predecessors=shelf.shown(shelf.mine.filter(replaced_by=found.pk)),
        successors=shelf.shown(shelf.mine.filter(pk=found.replaced_by_id)), done=request.GET.get("done", ""),
    )  # fmt: skip


@for_people("GET", "HEAD", "POST")
def change_key(request: HttpRequest, pk: int) -> HttpResponse:
    """Change a key's name, what it may do and from where."""
    found, shelf = _find(request, pk)
    form = ChangeForm(request.POST if request.method == "POST" else None, key=found)
    if form.is_valid():
        try:
            rules.change(found, **form.changes)
        except StaleKeyError:
            form.add_error(None, STALE)
        except ValidationError as error:
            form.refuse(error)
        else:
            return _to_key(request, found, "changed")
        found.refresh_from_db()
    return show(request, "change", shown=shelf.shown([found])[0], form=form)


@for_people("GET", "HEAD", "POST")
def rotate_key(request: HttpRequest, pk: int) -> HttpResponse:
    """Show who uses the key and ask for the grace, then make the successor and show it in the answer."""
    found, shelf = _find(request, pk)
    form = RotateForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            # The outermost is committed last: nobody may hold a key whose page could not be finished.
            with transaction.atomic(using=router.db_for_write(APIKey)):
                successor = rules.rotate(found, form.cleaned_data["grace"])
                return _reveal(request, successor, found)
        except rules.NotRotatableError:
            found.refresh_from_db()
        except RotationError as error:
            form.add_error(None, str(error))
        except StaleKeyError:
            form.add_error(None, STALE)
        except OwnerUnknownError:
            form.add_error(None, UNKNOWN)
        except ValidationError as error:
            form.refuse(error)
    return _step(request, "rotate", found, shelf, form)


@for_people("GET", "HEAD", "POST")
def deactivate_key(request: HttpRequest, pk: int) -> HttpResponse:
    """Show who uses the key, then refuse it from the next request on."""
    found, shelf = _find(request, pk)
    form = DeactivateForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            rules.deactivate(found, form.cleaned_data["reason"])
        except StaleKeyError:
            form.add_error(None, STALE)
        except ValidationError as error:
            form.refuse(error)
        else:
            return _to_key(request, found, "deactivated")
    return _step(request, "deactivate", found, shelf, form)


def _step(request: HttpRequest, page: str, found: APIKey, shelf: Shelf, form: Any) -> HttpResponse:
    return show(
        request, page, shown=shelf.shown([found])[0], form=form, clients=clients(found, LATELY, CLIENTS_LATELY),
        sentence=retirement(found).sentence if found.replaced_by_id is not None else "",
        successors=shelf.shown(shelf.mine.filter(pk=found.replaced_by_id)),
    )  # fmt: skip


def _find(request: HttpRequest, pk: int) -> tuple[APIKey, Shelf]:
    """Return a key of the user's, in whatever state. Anybody else's is not found, like one that does not exist."""
    shelf = Shelf(request)
    found: APIKey | None = shelf.mine.filter(pk=pk).first()
    if found is None:
        raise Http404
    return found, shelf


def _to_key(request: HttpRequest, found: APIKey, done: str) -> HttpResponse:
    return HttpResponseRedirect(Links(request).of("key", found.pk) + f"?done={done}")
