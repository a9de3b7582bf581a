"""The pages on which people look after keys of their own."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.template import TemplateDoesNotExist
from django.test import Client
from django.test.utils import override_script_prefix
from django.utils import timezone, translation
from pytest_django import DjangoAssertNumQueries, Settings

from keys import moments
from keys.actor import Service
from keys.models import APIKey, AuditEvent
from tests.selfservice.limits import RULES
from tests.support.keys import backdate, make_key, stored
from tests.support.log import record

LIST, NEW = "/account/keys/", "/account/keys/new/"
TOKEN = re.compile(r"\b[0-9a-f]{40}\b")
DAY = 24 * 60 * 60
PAGES = ("", "change/", "rotate/", "deactivate/")


@pytest.fixture(autouse=True)
def _pages(settings: Settings) -> None:
    settings.ROOT_URLCONF = "tests.selfservice.page_urls"
    settings.LOGIN_URL = "/log-in/"


@pytest.fixture
def browser(client: Client, anna: User) -> Client:
    client.force_login(anna)
    return client


def of(key: APIKey, page: str = "") -> str:
    return f"{LIST}{key.pk}/{page}"


def answers(client: Client, **changes: Any) -> dict[str, Any]:
    """Return what a browser sends that opened the form to make a key and filled it in."""
    initial = client.get(NEW).context["form"].initial
    filled = {"name": "CI", "scopes": ["users:read"], "life": 90 * DAY, **initial, **changes}
    return {name: value for name, value in filled.items() if value is not None}


def use(key: APIKey, **fields: Any) -> None:
    """Write a use of the key, or a refusal, while it is its owner's."""
    record(key, **{"at": timezone.now(), "owner": key.owner_ref, **fields})


def text(response: Any) -> str:
    assert response.status_code == 200
    return str(response.content.decode())


def use_templates(settings: Settings, **templates: str) -> None:
    """Give the project templates of its own, by name: `__` stands for `/`, and the ending is html."""
    (engine,) = settings.TEMPLATES
    own = {f"{name.replace('__', '/')}.html": text for name, text in templates.items()}
    loaders = [
        ("django.template.loaders.locmem.Loader", own),
        "django.template.loaders.app_directories.Loader",
    ]
    settings.TEMPLATES = [{**engine, "APP_DIRS": False, "OPTIONS": {**engine["OPTIONS"], "loaders": loaders}}]


@pytest.mark.matrix
def test_a_key_is_made_and_shown_once(browser: Client, anna: User) -> None:
    response = browser.post(NEW, answers(browser, allowed_ips="10.0.0.0/8\r\n\r\n 2001:db8::/32 \r\n"))
    key = APIKey.objects.get()
    (shown,) = {*TOKEN.findall(text(response))}
    # Nothing that others do with the key later gets its secret.
    assert response.context["shown"].key.key != shown
    assert APIKey.objects.get(key=shown) == key
    assert (key.name, key.scopes, key.owner) == ("CI", ["users:read"], anna)
    assert key.allowed_ips == ["10.0.0.0/8", "2001:db8::/32"]
    assert key.expires_at is not None
    assert abs(key.expires_at - timezone.now() - timedelta(days=90)) < timedelta(minutes=1)
    assert "no-store" in response["Cache-Control"]
    for page in (LIST, *(of(key, page) for page in PAGES)):
        assert shown not in text(browser.get(page))
    kept = f"{dict(browser.session.items())}{browser.cookies}{[*AuditEvent.objects.values()]}"
    assert shown not in kept
    (event,) = AuditEvent.objects.filter(event="created")
    assert (event.actor, event.owner) == ("user: anna", f"auth.user:{anna.pk}")


def test_a_form_that_is_sent_again_makes_no_second_key(browser: Client) -> None:
    sent = answers(browser)
    assert TOKEN.search(text(browser.post(NEW, sent)))
    key = APIKey.objects.get()
    for name in ("CI", "Renamed meanwhile"):
        browser.post(of(key, "change/"), shown_by(browser, key, name=name))
        key.refresh_from_db()
        again = text(browser.post(NEW, sent))
        assert not TOKEN.search(again)
        assert of(key) in again
    assert APIKey.objects.get() == key
    # The form that is opened anew makes another key, of the same name if that is wanted; so does another owner's key.
    assert TOKEN.search(text(browser.post(NEW, answers(browser))))
    # A program that says nothing of a form makes as many as it likes.
    assert TOKEN.search(text(browser.post(NEW, answers(browser, after=None))))


def test_a_key_that_was_rotated_meanwhile_is_not_the_one_of_the_form(browser: Client, key: APIKey) -> None:
    sent = answers(browser, name=key.name)
    browser.post(of(key, "rotate/"), {"grace": DAY})
    assert TOKEN.search(text(browser.post(NEW, sent)))


@pytest.mark.parametrize("page", ["secret", "base"])
def test_a_key_whose_page_cannot_be_rendered_is_not_made(
    browser: Client, key: APIKey, settings: Settings, page: str
) -> None:
    sent, templates = answers(browser), {f"keys__selfservice__{page}": "{% include 'nowhere.html' %}"}
    use_templates(settings, **templates)
    for address, filled in ((NEW, sent), (of(key, "rotate/"), {"grace": DAY})):
        with pytest.raises(TemplateDoesNotExist):
            browser.post(address, filled)
    assert APIKey.objects.get() == key
    assert stored(key, "replaced_by") is None


def test_what_the_rules_refuse_stands_at_its_field(browser: Client, settings: Settings) -> None:
    late = f"{moments.today() + timedelta(days=102):%Y-%m-%d}"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"name": " "}, "name"),
        ({"name": "a\x07b"}, "name"),
        ({"scopes": ["users:read", "*"]}, "scopes"),
        ({"scopes": ["employees:read"]}, "scopes"),
        ({"allowed_ips": "300.1.1.1"}, "allowed_ips"),
        ({"life": 101 * DAY}, "life"),
        ({"life": "endless"}, "life"),
        ({"life": "custom"}, "last_day"),
        ({"life": "custom", "last_day": "tomorrow"}, "last_day"),
        ({"life": "custom", "last_day": "9999-12-31"}, "last_day"),
        ({"last_day": "2026-01-01"}, "last_day"),
        ({"life": "custom", "last_day": late}, "life"),
        ({"life": "custom", "last_day": "0001-01-01"}, "life"),
    ]
    for changes, field in cases:
        response = browser.post(NEW, answers(browser, **changes))
        assert [*response.context["form"].errors] == [field], changes
        assert "No key was made." in text(response)
    assert not APIKey.objects.exists()


def test_a_last_day_is_over_when_the_day_is(browser: Client) -> None:
    day = moments.today() + timedelta(days=10)
    browser.post(NEW, answers(browser, life="custom", last_day=f"{day:%Y-%m-%d}"))
    assert APIKey.objects.get().expires_at == moments.start_of(day + timedelta(days=1))


@pytest.mark.parametrize("days", [100, None])
def test_the_latest_day_of_all_can_be_chosen(browser: Client, settings: Settings, days: int | None) -> None:
    latest = moments.today() + timedelta(days=100)
    chosen = {"life": 100 * DAY} if days else {"life": "custom", "last_day": f"{latest:%Y-%m-%d}"}
    assert TOKEN.search(text(browser.post(NEW, answers(browser, **chosen))))
    end = APIKey.objects.get().expires_at
    assert end is not None
    assert moments.local(end).date() == latest


def test_what_may_be_chosen_follows_the_settings(browser: Client, settings: Settings) -> None:
    def lives() -> tuple[list[str], str]:
        field = browser.get(NEW).context["form"].fields["life"]
        return [value for value, _ in field.choices], field.initial

    week, usual, longest = str(7 * DAY), str(90 * DAY), str(100 * DAY)
    assert lives() == ([week, str(30 * DAY), usual, longest, "custom"], usual)
    settings.KEYS = {**settings.KEYS, "SELF_SERVICE": {**RULES, "LONGEST_LIFE": timedelta(hours=12)}}
    assert lives() == ([str(12 * 3600), "custom"], str(12 * 3600))
    settings.KEYS = {**settings.KEYS, "SELF_SERVICE": {**RULES, "LONGEST_LIFE": None, "SCOPES": []}}
    assert lives()[0][-2:] == ["custom", "endless"]
    sent = answers(browser, life="endless")
    assert "scopes" not in browser.get(NEW).context["form"].fields
    assert TOKEN.search(text(browser.post(NEW, sent)))
    assert (APIKey.objects.get().expires_at, APIKey.objects.get().scopes) == (None, [])


def test_the_defaults_among_what_may_be_given_are_ticked(browser: Client) -> None:
    page = text(browser.get(NEW))
    assert re.findall(r'name="scopes" value="(\S+)"[^>]* checked', page) == ["users:read"]
    assert "Read the details of users." in page
    assert "Everything that can be done with tracking." in page


def test_the_limit_is_said_before_and_after(browser: Client, anna: User) -> None:
    for number in range(2):
        make_key(f"K{number}", owner_ref=f"auth.user:{anna.pk}")
    assert "2 of 3 keys" in text(browser.get(LIST))
    sent = answers(browser)
    make_key("The last", owner_ref=f"auth.user:{anna.pk}")
    assert "3 keys are the most" in text(browser.post(NEW, sent))
    page = text(browser.get(NEW))
    assert "3 of 3 keys" in page
    assert "<form" not in page
    assert APIKey.objects.count() == 3


def test_without_a_key_the_list_says_what_one_is_for(browser: Client) -> None:
    page = text(browser.get(LIST))
    assert "A key is for a program" in page
    assert NEW in page


def test_the_list_shows_each_key_and_its_state(browser: Client, anna: User, key: APIKey, given: APIKey) -> None:
    use(key, at=timezone.now() - timedelta(hours=5))
    ended = make_key("Ended", owner_ref=key.owner_ref, is_active=False)
    shown = browser.get(LIST).context["page"].object_list
    assert [one.key for one in shown] == [key, given, ended]
    page = text(browser.get(LIST))
    for words in (key.prefix, "5 hours ago", "Read the details of users.", "active", "inactive"):
        assert words in page
    # What may do more than users may give is not theirs to rotate, and its page says so.
    assert of(key, "rotate/") in page
    assert of(given, "rotate/") not in page
    assert of(ended, "deactivate/") not in page
    assert "Ask an administrator to rotate it." in text(browser.get(of(given)))


def test_a_key_is_rotated_with_a_grace(browser: Client, key: APIKey) -> None:
    response = browser.post(of(key, "rotate/"), {"grace": 3600})
    (shown,) = {*TOKEN.findall(text(response))}
    successor = APIKey.objects.get(key=shown)
    key.refresh_from_db()
    assert key.replaced_by == successor
    assert key.expires_at is not None
    assert moments.exactly(key.expires_at) in text(response)
    assert "no-store" in response["Cache-Control"]
    # Once more, by reloading that page: no other key, and the way to the one that there is.
    again = text(browser.post(of(key, "rotate/"), {"grace": 3600}))
    assert not TOKEN.search(again)
    assert of(successor) in again
    assert APIKey.objects.count() == 2
    assert AuditEvent.objects.get(event="rotated").actor == "user: anna"


@pytest.mark.parametrize("grace", ["-1", "", "5", "31536000000", "x"])
def test_a_grace_that_is_not_offered_rotates_nothing(browser: Client, key: APIKey, grace: str) -> None:
    response = browser.post(of(key, "rotate/"), {"grace": grace})
    assert "grace" in response.context["form"].errors
    assert APIKey.objects.count() == 1


def test_what_cannot_be_rotated_says_why(browser: Client, key: APIKey, given: APIKey) -> None:
    key.deactivate()
    for one, why in ((key, "It is refused already."), (given, "Ask an administrator")):
        assert why in text(browser.get(of(one, "rotate/")))
        response = browser.post(of(one, "rotate/"), {"grace": 3600})
        assert not TOKEN.search(text(response))
    assert APIKey.objects.count() == 2


def test_a_key_is_deactivated_with_a_reason(browser: Client, key: APIKey) -> None:
    use(key, address="203.0.113.7", user_agent="backup/2", endpoint="orders")
    page = text(browser.get(of(key, "deactivate/")))
    for words in ("203.0.113.7", "backup/2", "orders"):
        assert words in page
    response = browser.post(of(key, "deactivate/"), {"reason": "The laptop is lost."}, follow=True)
    assert "It is refused from now on." in text(response)
    key.refresh_from_db()
    assert not key.is_active
    event = AuditEvent.objects.get(event="deactivated")
    assert (event.actor, event.detail) == ("user: anna", "The laptop is lost.")
    assert "It is refused already." in text(browser.get(of(key, "deactivate/")))
    too_long = browser.post(of(key, "deactivate/"), {"reason": "x" * 201})
    assert "reason" in too_long.context["form"].errors


def test_a_page_says_only_what_is_so(browser: Client, key: APIKey) -> None:
    assert "It is refused from now on." not in text(browser.get(of(key), {"done": "deactivated"}))


def shown_by(client: Client, key: APIKey, **changes: Any) -> dict[str, Any]:
    """Return what a browser sends that opened the form to change the key and changed something in it."""
    opened = {"name": key.name, "scopes": key.scopes, "allowed_ips": "\n".join(key.allowed_ips)}
    page = text(client.get(of(key, "change/")))
    assert all(f'name="initial-{name}"' in page for name, value in opened.items() if value != [])
    return {**opened, **{f"initial-{name}": value for name, value in opened.items()}, **changes}


def test_a_key_is_changed(browser: Client, key: APIKey) -> None:
    sent = shown_by(browser, key, name=" Deploy ", scopes=["tracking:*"], allowed_ips="10.0.0.0/8\r\n")
    assert "It is changed." in text(browser.post(of(key, "change/"), sent, follow=True))
    key.refresh_from_db()
    assert (key.name, key.scopes, key.allowed_ips) == ("Deploy", ["tracking:*"], ["10.0.0.0/8"])
    event = AuditEvent.objects.get(event="changed")
    assert (event.actor, {*event.changes}) == ("user: anna", {"name", "scopes", "allowed_ips"})


def test_what_the_rules_refuse_is_not_changed(browser: Client, key: APIKey, given: APIKey) -> None:
    cases: list[tuple[APIKey, dict[str, Any], str]] = [
        (key, {"name": "a\x07b"}, "name"),
        (key, {"scopes": ["employees:read"]}, "scopes"),
        (key, {"allowed_ips": "0.0.0.0"}, "allowed_ips"),
        (given, {"scopes": [*given.scopes, "tracking:*"]}, "scopes"),
        (given, {"allowed_ips": ""}, "allowed_ips"),
    ]
    for one, changes, field in cases:
        response = browser.post(of(one, "change/"), shown_by(browser, one, **changes))
        assert [*response.context["form"].errors] == [field], changes
        assert f"<h1>Change {one.name}</h1>" in text(response)
    # What an administrator gave can be narrowed.
    browser.post(of(given, "change/"), shown_by(browser, given, scopes=["employees:read"]))
    assert stored(given, "scopes") == ["employees:read"]
    key.deactivate()
    assert "It is refused already." in text(browser.get(of(key, "change/")))
    assert browser.post(of(key, "change/"), {"name": "B"}).status_code == 200
    assert stored(key, "name") == "A"


def test_a_page_that_was_opened_before_undoes_nothing(browser: Client, key: APIKey) -> None:
    key.scopes = ["users:read", "tracking:*"]
    key.save()
    sent = shown_by(browser, key, name="B")
    key.scopes = ["users:read"]
    key.save()
    browser.post(of(key, "change/"), sent)
    assert (stored(key, "name"), stored(key, "scopes")) == ("B", ["users:read"])
    sent |= {"initial-name": "B", "scopes": ["tracking:*"]}
    assert "Somebody else has changed this" in text(browser.post(of(key, "change/"), sent))
    assert stored(key, "scopes") == ["users:read"]
    # A program sends the values alone.
    browser.post(of(key, "change/"), {"name": "C", "scopes": ["tracking:*"]})
    assert (stored(key, "name"), stored(key, "scopes")) == ("C", ["tracking:*"])


def test_who_used_it_is_told_by_address_program_and_call(browser: Client, key: APIKey, anna: User) -> None:
    for number in range(3):
        use(key, at=timezone.now() - timedelta(days=number), address="203.0.113.7", user_agent="a", endpoint="users")
    refused = {"event": "refused", "reason": "address", "count": 1200}
    use(key, **refused, address="198.51.100.1", user_agent="b", endpoint="jobs")
    use(key, at=timezone.now() - timedelta(days=40), address="192.0.2.1", user_agent="c", endpoint="old")
    found = browser.get(of(key)).context["clients"].found
    told = [(one.address, one.user_agent, one.endpoint, one.uses, one.refusals) for one in found]
    assert told == [("198.51.100.1", "b", "jobs", 0, 1200), ("203.0.113.7", "a", "users", 3, 0)]
    assert "192.0.2.1" in text(browser.get(of(key), {"days": "90"}))
    assert text(browser.get(of(key), {"days": "'"}))


def test_who_used_it_names_the_service_behind_a_gateway_and_the_one_that_asked(browser: Client, key: APIKey) -> None:
    use(key, at=timezone.now() - timedelta(hours=2), endpoint="gateway:orders.example", path="/orders/7/")
    use(key, endpoint="introspection:Orders", path="/introspect/")
    assert [one.called for one in browser.get(of(key)).context["clients"].found] == [
        "Orders, which asked about it", "orders.example",
    ]  # fmt: skip


def test_what_was_done_for_another_owner_is_not_shown_and_not_denied(browser: Client, key: APIKey, ben: User) -> None:
    assert "Nobody used it in the last 7 days." in text(browser.get(of(key, "deactivate/")))
    use(key, owner=f"auth.user:{ben.pk}", address="192.0.2.1")
    page = text(browser.get(of(key, "deactivate/")))
    assert "192.0.2.1" not in page
    assert "Nobody used it" not in page
    assert "while it had another owner" in page


def test_whoever_is_not_logged_in_is_sent_to_log_in(client: Client, key: APIKey) -> None:
    header = {"X-API-Key": str(key.key)}
    for address in (LIST, NEW, *(of(key, page) for page in PAGES), of(make_key())):
        for send in (client.get, client.post):
            for headers in ({}, header):
                response = send(address, headers=headers)
                assert response.status_code == 302
                assert response["Location"] == f"/log-in/?next={address}"


class _ActsAsOwner:
    """Middleware of a project that logs keys in as their owners, for every view."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        key = APIKey.objects.filter(key=request.headers.get("X-API-Key", "")).first()
        if key is not None:
            request.user = key.owner  # type: ignore[assignment]
            request.auth = key  # type: ignore[attr-defined]
        return self.get_response(request)


class _Principal(Service):
    is_authenticated = True
    actor_name = "key:A"


class _ActsAsService(_ActsAsOwner):
    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.user = _Principal()  # type: ignore[assignment]
        return self.get_response(request)


@pytest.mark.parametrize("middleware", [_ActsAsOwner, _ActsAsService])
def test_a_key_never_looks_after_keys(client: Client, key: APIKey, settings: Settings, middleware: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.{middleware.__name__}"]
    header = {"X-API-Key": str(key.key)}
    for address in (LIST, NEW, *(of(key, page) for page in PAGES)):
        assert client.get(address, headers=header).status_code == 403
    for address in (NEW, *(of(key, page) for page in PAGES[1:])):
        assert client.post(address, {"name": "B", "grace": 0, "life": 7 * DAY}, headers=header).status_code == 403
    assert APIKey.objects.count() == 1


def test_the_keys_of_others_are_not_there(client: Client, ben: User, key: APIKey) -> None:
    client.force_login(ben)
    nobodys = make_key()
    for pk in (key.pk, nobodys.pk, key.pk + 1000, 2**63, 10**40):
        for page in PAGES:
            assert client.get(f"{LIST}{pk}/{page}").status_code == 404
        for page in PAGES[1:]:
            filled = {"grace": DAY, "reason": "", "name": "Mine"}
            assert client.post(f"{LIST}{pk}/{page}", filled).status_code == 404
    assert key.prefix not in text(client.get(LIST))
    response = client.post(NEW, {**answers(client), "owner": key.owner_ref})
    assert TOKEN.search(text(response))
    assert set(APIKey.objects.exclude(pk__in=[key.pk, nobodys.pk]).values_list("owner_ref", flat=True)) == {
        f"auth.user:{ben.pk}"
    }
    assert AuditEvent.objects.filter(api_key=key.pk).count() == 1


@pytest.mark.parametrize("middleware", [True, False])
def test_another_site_cannot_send_the_forms(key: APIKey, anna: User, settings: Settings, middleware: bool) -> None:
    if not middleware:
        settings.MIDDLEWARE = [one for one in settings.MIDDLEWARE if "Csrf" not in one]
    client = Client(enforce_csrf_checks=True)
    client.force_login(anna)
    for address in (NEW, *(of(key, page) for page in PAGES[1:])):
        assert client.get(address).status_code == 200
        assert client.post(address, {"name": "B", "grace": 0, "life": 7 * DAY}).status_code == 403
    assert [*AuditEvent.objects.values_list("event", flat=True)] == ["created"]


def test_other_methods_are_not_known(browser: Client, key: APIKey) -> None:
    for address in (LIST, of(key)):
        assert browser.post(address).status_code == 405
        assert browser.head(address).status_code == 200
    assert browser.delete(of(key)).status_code == 405


def of_groups(user: User) -> list[Any]:
    return [*user.groups.all()]


@pytest.fixture
def groups(anna: User, settings: Settings) -> list[Group]:
    """Anna acts for two groups of hers, and not for herself; there is a third one."""
    rules = {**RULES, "OWNERS_OF": f"{__name__}.of_groups"}
    settings.KEYS = {**settings.KEYS, "SELF_SERVICE": rules}
    made = [Group.objects.create(name=name) for name in ("Shop", "Warehouse", "Others")]
    anna.groups.set(made[:2])
    return made


def test_a_user_chooses_among_several_owners(browser: Client, groups: list[Group]) -> None:
    shop, warehouse, others = groups
    key = make_key("Till", owner_ref=f"auth.group:{shop.pk}")
    make_key("Shelf", owner_ref=f"auth.group:{warehouse.pk}")
    page = text(browser.get(NEW, {"owner": f"auth.group:{warehouse.pk}"}))
    assert "Shop (1 of 3 keys)" in page
    assert f'value="auth.group:{warehouse.pk}" selected' in page
    assert "Others" not in page
    for owner in ("", f"auth.group:{others.pk}", "auth.user:1"):
        assert "owner" in browser.post(NEW, answers(browser, owner=owner)).context["form"].errors
    assert TOKEN.search(text(browser.post(NEW, answers(browser, owner=f"auth.group:{warehouse.pk}"))))
    assert APIKey.objects.get(name="CI").owner == warehouse
    listed = text(browser.get(LIST))
    assert "Warehouse (2 of 3 keys)" in listed
    assert "Others" not in listed
    narrowed = browser.get(LIST, {"owner": f"auth.group:{shop.pk}"}).context["page"].object_list
    assert [one.key for one in narrowed] == [key]
    assert "Shop" in text(browser.get(of(key)))


def of_groups_and_user(user: User) -> list[Any]:
    return [*user.groups.all(), user]


def test_the_user_is_chosen_among_several_owners(
    browser: Client, groups: list[Group], anna: User, settings: Settings
) -> None:
    rules = {**RULES, "OWNERS_OF": f"{__name__}.of_groups_and_user"}
    settings.KEYS = {**settings.KEYS, "SELF_SERVICE": rules}
    assert f'value="auth.user:{anna.pk}" selected' in text(browser.get(NEW))
    asked = f"auth.group:{groups[0].pk}"
    assert f'value="{asked}" selected' in text(browser.get(NEW, {"owner": asked}))


def test_who_acts_for_nobody_makes_nothing(browser: Client, anna: User, groups: list[Group]) -> None:
    anna.groups.clear()
    assert "You cannot make a key yet" in text(browser.get(LIST))
    assert "<form" not in text(browser.get(NEW))
    response = browser.post(NEW, answers(browser, after=0, name="B"))
    assert not TOKEN.search(text(response))
    assert not APIKey.objects.exists()


def test_an_owner_of_whom_nobody_can_tell_gets_no_key(browser: Client, key: APIKey, settings: Settings) -> None:
    sent = answers(browser)
    settings.KEYS = {**settings.KEYS, "OWNER_IS_ALLOWED": "tests.ownership.rules.fails"}
    for address, filled in ((NEW, sent), (of(key, "rotate/"), {"grace": DAY})):
        assert "Try again later." in text(browser.post(address, filled))
    assert APIKey.objects.count() == 1


def test_the_pages_stand_in_the_projects_base(browser: Client, key: APIKey, settings: Settings) -> None:
    base = (
        "<title>{% block title %}Site{% endblock %}</title><nav>{{ request.user }}</nav>"
        "<main>{% block content %}{% endblock %}</main>"
    )
    use_templates(settings, base=base)
    for address in (LIST, NEW, *(of(key, page) for page in PAGES)):
        page = text(browser.get(address))
        assert page.lstrip().startswith("<title>")
        assert "<nav>anna</nav>" in page
        assert '<main><link rel="stylesheet"' in page.replace("\n", "")
        assert "keys-alone" not in page
    assert "<title>New key</title>" in text(browser.get(NEW))
    use_templates(settings, base="{% extends 'site.html' %}", site=base)
    assert "<nav>anna</nav>" in text(browser.get(LIST))


@pytest.mark.parametrize("base", ["<body>{% block main %}{% endblock %}</body>", "{% extends somewhere %}", ""])
def test_a_base_without_a_place_for_them_is_not_theirs(browser: Client, settings: Settings, base: str) -> None:
    use_templates(settings, base=base)
    page = text(browser.get(LIST))
    assert "keys-alone" in page
    assert "A key is for a program" in page


def test_a_project_overrides_block_by_block(browser: Client, settings: Settings) -> None:
    use_templates(
        settings,
        keys__selfservice__base="{% extends 'site.html' %}{% block main %}{% block keys_page %}{% endblock %}"
        "{% endblock %}{% block name %}{% block keys_title %}{% endblock %}{% endblock %}",
        site="<h6>{% block name %}{% endblock %}</h6>{% block main %}{% endblock %}",
        keys__selfservice__list="{% extends 'keys/selfservice/page.html' %}{% block keys_main %}Our own.{% endblock %}",
    )
    page = text(browser.get(LIST))
    assert "<h6>API keys</h6>" in page
    assert "Our own." in page


def test_nothing_of_the_project_is_needed_around_the_pages(browser: Client, key: APIKey, settings: Settings) -> None:
    (engine,) = settings.TEMPLATES
    settings.TEMPLATES = [{**engine, "OPTIONS": {}}]
    apps = ("admin", "messages", "staticfiles")
    settings.MIDDLEWARE = [one for one in settings.MIDDLEWARE if not {"messages", "keys"} & {*one.split(".")}]
    settings.INSTALLED_APPS = [one for one in settings.INSTALLED_APPS if not one.endswith(apps)]
    settings.APPEND_SLASH = False
    for address in (LIST, NEW, *(of(key, page) for page in PAGES)):
        assert "keys/selfservice.css" in text(browser.get(address))
    browser.post(of(key, "deactivate/"), {"reason": ""})
    assert AuditEvent.objects.get(event="deactivated").actor == "user: anna"


def test_links_lead_to_where_the_pages_are(browser: Client, key: APIKey) -> None:
    for prefix, script in (("/within/keys/", ""), (LIST, "/site")):
        with override_script_prefix(f"{script}/"):
            page = text(browser.get(prefix))
        links = {*re.findall(r'href="(/[^"]+)"', page)} - {"/static/keys/selfservice.css"}
        assert f"{script}{prefix}{key.pk}/rotate/" in links
        assert {link.startswith(f"{script}{prefix}") for link in links if "static" not in link} == {True}
    with override_script_prefix("/site/"):
        assert "http://testserver/site/</code>" in text(browser.post(LIST + "new/", answers(browser)))
    moved = browser.post(f"/within/keys/{key.pk}/deactivate/", {"reason": ""})
    assert moved["Location"].startswith(f"/within/keys/{key.pk}/?")


def test_numbers_and_dates_are_those_of_the_language(browser: Client, anna: User, settings: Settings) -> None:
    settings.USE_THOUSAND_SEPARATOR = True
    end, ref = moments.start_of(date(2099, 3, 1)), f"auth.user:{anna.pk}"
    key = make_key(pk=1_234_567, owner_ref=ref, expires_at=end, scopes=["users:read"])
    use(key, count=12_345, event="refused", reason="address")
    with translation.override("de"):
        assert of(key, "rotate/") in text(browser.get(LIST))
        for words in ("1. März 2099", "12.345"):
            assert words in text(browser.get(of(key)))
        assert f'value="{key.pk}"' in text(browser.get(NEW))
        assert TOKEN.search(text(browser.post(NEW, answers(browser))))


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Pacific/Kiritimati"])
def test_without_time_zones_the_pages_are_the_same(browser: Client, key: APIKey, settings: Settings, zone: str) -> None:
    settings.USE_TZ = False
    settings.TIME_ZONE = zone
    day = moments.today() + timedelta(days=3)
    made = browser.post(NEW, answers(browser, life="custom", last_day=f"{day:%Y-%m-%d}"))
    assert TOKEN.search(text(made))
    new = APIKey.objects.get(name="CI")
    assert new.expires_at == moments.start_of(day + timedelta(days=1))
    for address in (LIST, *(of(new, page) for page in PAGES)):
        assert text(browser.get(address))


def test_200_keys_are_on_some_pages(
    browser: Client, anna: User, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    ref = f"auth.user:{anna.pk}"
    APIKey.objects.bulk_create([APIKey(name=f"K{number:03}", owner_ref=ref) for number in range(200)])
    with django_assert_max_num_queries(12):
        first = browser.get(LIST)
    assert first.context["page"].paginator.num_pages == 4
    assert 'href="?page=2"' in text(first)
    assert "K199" in text(browser.get(LIST, {"page": "4"}))
    assert text(browser.get(LIST, {"page": "x"}))


def test_an_old_key_is_marked(browser: Client, key: APIKey) -> None:
    backdate(key, timezone.now() - timedelta(days=100))
    assert "Older than 90 days" in text(browser.get(LIST))


@pytest.mark.django_db
def test_what_others_wrote_is_text(client: Client) -> None:
    script = "<script>alert(1)</script>"
    user = User.objects.create(username=script)
    client.force_login(user)
    key = make_key(script, owner_ref=f"auth.user:{user.pk}", scopes=["users:read"])
    use(key, user_agent=script, endpoint=script)
    sent = answers(client, name=script, after=0)
    pages = [client.get(address) for address in (LIST, NEW, *(of(key, page) for page in PAGES))]
    pages += [client.post(NEW, sent), client.post(NEW, {**sent, "after": key.pk - 1, "life": script})]
    pages.append(client.post(of(key, "rotate/"), {"grace": DAY}))
    for page in pages:
        assert "<script>" not in text(page).replace('<script src="', "")


@pytest.mark.django_db(transaction=True)
def test_of_two_clicks_at_the_same_time_one_makes_a_key(anna: User) -> None:
    def click(address: str, filled: dict[str, Any]) -> bool:
        try:
            second = Client()
            second.cookies = first.cookies
            return TOKEN.search(text(second.post(address, filled))) is not None
        finally:
            connections.close_all()

    first = Client()
    first.force_login(anna)
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(partial(click, NEW), [answers(first)] * 2)) == [False, True]
        key = APIKey.objects.get()
        assert sorted(pool.map(partial(click, of(key, "rotate/")), [{"grace": DAY}] * 2)) == [False, True]
    assert APIKey.objects.count() == 2
