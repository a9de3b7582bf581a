"""Who is named as the actor of a change: the user of the request, the command, what `acting_as` says, or nobody."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import copy_context
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connection, connections
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.urls import path
from ninja import NinjaAPI
from ninja.security import HttpBearer
from pytest_django import Settings
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.authentication import JWTStatelessUserAuthentication
from rest_framework_simplejwt.tokens import AccessToken

from keys import actor
from keys.authentication import APIKeyAuthentication
from keys.decorators import api_key_required
from keys.models import APIKey, AuditEvent
from tests.support.keys import change
from tests.views import InternalAuthentication

pytestmark = pytest.mark.django_db

OURS = "keys.middleware.APIKeyMiddleware"


def make(request: HttpRequest) -> HttpResponse:
    APIKey.objects.create(name="made")
    return HttpResponse()


async def make_async(request: HttpRequest) -> HttpResponse:
    await APIKey.objects.acreate(name="made")
    return HttpResponse()


def make_by_acting(request: HttpRequest) -> HttpResponse:
    with actor.acting_as("user: boss, for anna"):
        return make(request)


def make_by_a_command(request: HttpRequest) -> HttpResponse:
    call_command("keys_create", "made", verbosity=0)
    return HttpResponse()


def make_after_logging_in(request: HttpRequest) -> HttpResponse:
    login(request, User.objects.get(username="anna"))
    return make(request)


def make_and_fail(request: HttpRequest) -> HttpResponse:
    make(request)
    raise RuntimeError


def make_while_streaming(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        yield b"a"
        APIKey.objects.create(name="made")
        yield b"b"

    return StreamingHttpResponse(parts())


async def make_while_streaming_async(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"a"
        await APIKey.objects.acreate(name="made")
        yield b"b"

    return StreamingHttpResponse(parts())


def make_in_a_thread(request: HttpRequest) -> HttpResponse:
    def name() -> None:
        NAMED.append(actor.current())
        connections.close_all()

    for target in (name, partial(copy_context().run, name)):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    return HttpResponse()


def read(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


NAMED: list[str] = []


class Bearer(HttpBearer):
    def authenticate(self, request: HttpRequest, token: str) -> User | None:
        return User.objects.filter(username=token).first()


ninja = NinjaAPI(urls_namespace="actors")


@ninja.post("/make/", auth=Bearer())
def make_in_ninja(request: HttpRequest) -> None:
    APIKey.objects.create(name="made")


class Make(APIView):
    permission_classes: Any = []

    def post(self, request: Request) -> Response:
        APIKey.objects.create(name="made")
        return Response()


urlpatterns = [
    path("make/", make),
    path("make-async/", make_async),
    path("make-by-acting/", make_by_acting),
    path("make-by-a-command/", make_by_a_command),
    path("make-after-logging-in/", make_after_logging_in),
    path("make-and-fail/", make_and_fail),
    path("make-while-streaming/", make_while_streaming),
    path("make-while-streaming-async/", make_while_streaming_async),
    path("make-in-a-thread/", make_in_a_thread),
    path("read/", read),
    path("make-with-a-key/", api_key_required()(make)),
    path("drf-session/", Make.as_view(authentication_classes=[SessionAuthentication])),
    path("ninja/", ninja.urls),
    path("drf-stateless/", Make.as_view(authentication_classes=[JWTStatelessUserAuthentication])),
    path("drf-token/", Make.as_view(authentication_classes=[TokenAuthentication])),
    path("drf-key/", Make.as_view(authentication_classes=[APIKeyAuthentication])),
    path("drf-variable/", Make.as_view(authentication_classes=[InternalAuthentication])),
    path("drf-nobody/", Make.as_view(authentication_classes=[])),
]


@pytest.fixture(autouse=True)
def _addresses(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__


@pytest.fixture
def anna() -> User:
    return User.objects.create_user("anna", password="x")


@pytest.fixture
def browser(anna: User) -> Client:
    client = Client()
    client.force_login(anna)
    return client


def who() -> str:
    """Return who made the key of that name."""
    return str(AuditEvent.objects.get(event="created", key_name="made").actor)


@pytest.mark.parametrize("address", ["/make/", "/make-async/", "/make-while-streaming/", "/drf-session/"])
def test_is_who_is_logged_in(browser: Client, address: str) -> None:
    b"".join(browser.post(address))
    assert who() == "user: anna"
    assert actor.current() == ""


@pytest.mark.parametrize("place", ["first", "last"])
def test_wherever_the_middleware_stands(browser: Client, settings: Settings, place: str) -> None:
    others = [name for name in settings.MIDDLEWARE if name != OURS]
    settings.MIDDLEWARE = [OURS, *others] if place == "first" else [*others, OURS]
    browser.post("/make/")
    assert who() == "user: anna"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("address", ["/make/", "/make-async/", "/make-while-streaming-async/", "/drf-session/"])
def test_is_who_is_logged_in_under_asgi(anna: User, address: str) -> None:
    async def post() -> None:
        client = AsyncClient()
        await client.aforce_login(anna)
        answer: Any = await client.post(address)
        if answer.streaming:
            async for _ in answer:
                pass

    async_to_sync(post)()
    assert who() == "user: anna"


@pytest.mark.django_db(transaction=True)
def test_requests_at_once_do_not_take_each_others(anna: User) -> None:
    names = [f"user{number}" for number in range(8)]
    users = [User.objects.create_user(name) for name in names]

    async def post(user: User) -> None:
        client = AsyncClient()
        await client.aforce_login(user)
        await client.post("/make-async/")

    async def all_of_them() -> None:
        await asyncio.gather(*(post(user) for user in users))

    async_to_sync(all_of_them)()
    made = AuditEvent.objects.filter(event="created").values_list("actor", flat=True)
    assert sorted(made) == [f"user: {name}" for name in names]


def test_is_who_the_token_stands_for(anna: User) -> None:
    token = Token.objects.create(user=anna)
    Client().post("/drf-token/", headers={"Authorization": f"Token {token.key}"})
    assert who() == "user: anna"


@pytest.mark.parametrize("address", ["/make/", "/drf-nobody/", "/make-by-a-command/"])
def test_is_nobody_for_a_stranger(address: str) -> None:
    Client().post(address)
    assert who() == ""


def test_is_nobody_where_the_view_takes_no_notice_of_the_session(browser: Client) -> None:
    browser.post("/drf-nobody/")
    assert who() == ""


@pytest.mark.parametrize("address", ["/make-with-a-key/", "/drf-key/"])
def test_is_the_key_that_opened_the_view(browser: Client, address: str) -> None:
    key = APIKey.objects.create(name="Billing")
    browser.post(address, headers={"X-API-Key": str(key.key)})
    assert who() == "key:Billing"


def test_is_the_variable_whose_key_opened_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_DEDICATED_KEY", "k" * 40)
    Client().post("/drf-variable/", headers={InternalAuthentication.header: "k" * 40})
    assert who() == "env:TEST_DEDICATED_KEY"


def test_is_what_acting_as_says(browser: Client) -> None:
    browser.post("/make-by-acting/")
    assert who() == "user: boss, for anna"


def test_of_a_command_within_a_request_is_the_user(browser: Client) -> None:
    browser.post("/make-by-a-command/")
    assert who() == "user: anna"


def test_is_who_has_just_logged_in(anna: User) -> None:
    Client().post("/make-after-logging-in/")
    assert who() == "user: anna"


def test_is_forgotten_with_the_request(browser: Client) -> None:
    with pytest.raises(RuntimeError):
        browser.post("/make-and-fail/")
    assert actor.current() == ""
    Client(raise_request_exception=False).post("/make-and-fail/")
    APIKey.objects.create(name="later")
    actors = AuditEvent.objects.filter(event="created").order_by("id").values_list("actor", flat=True)
    assert [*actors] == ["user: anna", "", ""]


@pytest.mark.django_db(transaction=True)
def test_goes_into_a_thread_only_with_its_context(browser: Client) -> None:
    NAMED.clear()
    browser.post("/make-in-a-thread/")
    assert NAMED == ["", "user: anna"]


def test_is_whom_ninja_has_found(anna: User) -> None:
    Client().post("/ninja/make/", headers={"Authorization": "Bearer anna"})
    assert who() == "user: anna"


def test_is_known_by_a_token_that_has_no_name_in_it(anna: User) -> None:
    Client().post("/drf-stateless/", headers={"Authorization": f"Bearer {AccessToken.for_user(anna)}"})
    assert who() == f"user: TokenUser {anna.pk}"


def test_is_not_looked_up_by_a_request_that_changes_nothing(browser: Client) -> None:
    with CaptureQueriesContext(connection) as queries:
        browser.get("/read/")
    assert not queries.captured_queries


def test_is_nobody_where_users_cannot_be_read(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr("django.contrib.auth.get_user", fail)
    browser.post("/make/")
    assert who() == ""


@pytest.mark.django_db(transaction=True)
def test_is_nobody_where_the_database_has_no_sessions(browser: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE django_session RENAME TO sessions_elsewhere")
    try:
        assert browser.post("/make/").status_code == 200
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE sessions_elsewhere RENAME TO django_session")
    assert who() == ""


def test_of_the_admin_is_the_user_without_the_middleware(admin_client: Client, settings: Settings) -> None:
    settings.ROOT_URLCONF = "tests.urls"
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if name != OURS]
    key = APIKey.objects.create(name="A")
    admin_client.post("/admin/keys/apikey/deactivate/", {"keys": key.pk})
    assert AuditEvent.objects.get(event="deactivated").actor == "user: admin"


class Nightly(BaseCommand):
    """A command of the project's own."""

    def handle(self, *args: Any, **options: Any) -> None:
        APIKey.objects.create(name="made")


class TestCommands:
    @pytest.mark.parametrize(
        ("command", "pattern"),
        [
            (lambda: call_command("keys_create", "made", verbosity=0), r"command line: \S+"),
            (lambda: call_command(Nightly()), r"command line: \S+ \(\w+\)"),
        ],
    )
    def test_are_named_with_their_user(self, command: Callable[[], Any], pattern: str) -> None:
        command()
        assert re.fullmatch(pattern, who())

    def test_give_way_to_acting_as(self) -> None:
        with actor.acting_as("cron: nightly"):
            call_command("keys_create", "made", verbosity=0)
        assert who() == "cron: nightly"


def test_is_nobody_elsewhere() -> None:
    key = APIKey.objects.create(name="made")
    assert who() == ""
    change(key, rate="5/min")
    assert AuditEvent.objects.get(event="changed").actor == ""
