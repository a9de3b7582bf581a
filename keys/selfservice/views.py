"""The pages: they translate between people and `rules`, which decides everything."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
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
from .forms import ChangeForm, CreateForm, DeactivateForm, RotateForm, RuledForm
from .layout import Links, show
from .locks import locked
from .shown import ShownKey, UserKeys
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
    user_keys = UserKeys(request)
    chosen = user_keys.chosen(request.GET.get("owner", ""))
    page = Paginator(user_keys.keys(chosen), A_PAGE).get_page(request.GET.get("page"))
    page.object_list = user_keys.shown(page.object_list)
    choices = user_keys.labels() if user_keys.has_several_owners else {}
    return show(
        request, "list", user_keys=user_keys, page=page, chosen=chosen, choices=choices, **_pages(request, page)
    )


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
    user_keys = UserKeys(request)
    options: dict[str, Any] = {"owners": user_keys.labels()}
    if request.method != "POST":
        latest = user_keys.mine.aggregate(latest=Max("pk"))["latest"] or 0
        asked = user_keys.chosen(request.GET.get("owner", ""))
        options["chosen"] = asked or rules.usual_owner(request.user, user_keys.owners)
        return show(request, "create", form=CreateForm(initial={"after": latest}, **options), user_keys=user_keys)
    form = CreateForm(request.POST, **options)
    if form.is_valid():
        with _shown_in(form):
            return _create(request, form, user_keys)
    return show(request, "create", form=form, user_keys=user_keys)


@contextmanager
def _shown_in(form: RuledForm) -> Iterator[None]:
    """Show in the form why what somebody asked for is refused."""
    try:
        yield
    except StaleKeyError:
        form.add_error(None, STALE)
    except OwnerUnknownError:
        form.add_error(None, UNKNOWN)
    except RotationError as error:
        form.add_error(None, str(error))
    except ValidationError as error:
        form.refuse(error)


def _create(request: HttpRequest, form: CreateForm, user_keys: UserKeys) -> HttpResponse:
    asked, owner = form.cleaned_data, form.chosen_owner
    # Locked, so that the second of two simultaneous clicks finds the first one's key.
    with locked(owner) if owner else nullcontext():
        if (made := _made_before(user_keys.mine, owner, asked["after"], asked["name"])) is not None:
            return show(request, "made_before", shown=user_keys.shown([made])[0], name=asked["name"])
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
    found, user_keys = _find(request, pk)
    asked = request.GET.get("days", "")
    days = next((days for days in PERIODS if str(days) == asked), USUAL_PERIOD)
    return show(
        request, "key", shown=user_keys.shown([found])[0], clients=clients(found, days), periods=PERIODS,
        predecessors=user_keys.shown(user_keys.mine.filter(replaced_by=found.pk)),
        successors=user_keys.shown(user_keys.mine.filter(pk=found.replaced_by_id)), done=request.GET.get("done", ""),
    )  # fmt: skip


@for_people("GET", "HEAD", "POST")
def change_key(request: HttpRequest, pk: int) -> HttpResponse:
    """Change a key's name, what it may do and from where."""
    found, user_keys = _find(request, pk)
    form = ChangeForm(request.POST if request.method == "POST" else None, key=found)
    if form.is_valid():
        with _shown_in(form):
            rules.change(found, **form.changes)
            return _to_key(request, found, "changed")
    if form.errors:
        found.refresh_from_db()  # for the page, which tells of the key as it is
    return show(request, "change", shown=user_keys.shown([found])[0], form=form)


@for_people("GET", "HEAD", "POST")
def rotate_key(request: HttpRequest, pk: int) -> HttpResponse:
    """Show who uses the key and ask for the grace, then make the successor and show it in the answer."""
    found, user_keys = _find(request, pk)
    form = RotateForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        # The outermost is committed last: nobody may hold a key whose page could not be finished.
        with _shown_in(form), locked(found.owner_ref):
            successor = rules.rotate(found, form.cleaned_data["grace"])
            return _reveal(request, successor, found)
    if form.errors:
        found.refresh_from_db()  # for the page, which tells of the key as it is
    return _step(request, "rotate", found, user_keys, form)


@for_people("GET", "HEAD", "POST")
def deactivate_key(request: HttpRequest, pk: int) -> HttpResponse:
    """Show who uses the key, then refuse it from the next request on."""
    found, user_keys = _find(request, pk)
    form = DeactivateForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        with _shown_in(form):
            rules.deactivate(found, form.cleaned_data["reason"])
            return _to_key(request, found, "deactivated")
    return _step(request, "deactivate", found, user_keys, form)


def _step(request: HttpRequest, page: str, found: APIKey, user_keys: UserKeys, form: Any) -> HttpResponse:
    return show(
        request, page, shown=user_keys.shown([found])[0], form=form, clients=clients(found, LATELY, CLIENTS_LATELY),
        sentence=retirement(found).sentence if found.replaced_by_id is not None else "",
        successors=user_keys.shown(user_keys.mine.filter(pk=found.replaced_by_id)),
    )  # fmt: skip


def _find(request: HttpRequest, pk: int) -> tuple[APIKey, UserKeys]:
    """Return a key of the user's, in whatever state. Anybody else's is not found, like one that does not exist."""
    user_keys = UserKeys(request)
    found: APIKey | None = user_keys.mine.filter(pk=pk).first()
    if found is None:
        raise Http404
    return found, user_keys


def _to_key(request: HttpRequest, found: APIKey, done: str) -> HttpResponse:
    return HttpResponseRedirect(Links(request).of("key", found.pk) + f"?done={done}")
