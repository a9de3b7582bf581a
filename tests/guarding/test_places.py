"""Several headers and keywords in one guard, HTTP Basic among them: the same answers and rows at every door."""

from base64 import b64encode
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.http import HttpRequest, JsonResponse
from django.test import AsyncClient, Client
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from ninja import NinjaAPI
from pytest_django import Settings
from rest_framework.authentication import BaseAuthentication, BasicAuthentication, SessionAuthentication
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from keys import credentials
from keys.authentication import APIKeyAuthentication, EnvironmentKeyAuthentication, KeyringAuthentication
from keys.decorators import api_key_required
from keys.keyrings import DatabaseKeyring
from keys.middleware import APIKeyMiddleware
from keys.models import APIKey, AuditEvent
from keys.ninja import APIKeyAuth
from keys.permissions import HasAPIKey
from keys.testing import APIKeyClient
from keys.verification import Guard
from tests.support.commands import found
from tests.support.log import rows

pytestmark = pytest.mark.django_db

HEADERS, KEYWORDS = ("X-API-Key", "X-Service"), ("Api-Key", "Token", "basic")
SEVERAL = Guard(header=HEADERS, keyword=KEYWORDS)
TOKEN, WRONG = "0123456789abcdef0123456789abcdef01234567", "fedcba9876543210fedcba9876543210fedcba98"
INTERNAL = "a-key-from-the-environment-of-32-characters"
CHALLENGE = 'Api-Key realm="api", Token realm="api", Basic realm="api", charset="UTF-8"'
OURS = f"{APIKeyMiddleware.__module__}.{APIKeyMiddleware.__name__}"


class Several(APIKeyAuthentication):
    header = list(HEADERS)
    keyword = KEYWORDS


class OfAKeyring(KeyringAuthentication):
    header = HEADERS
    keyword = KEYWORDS
    keyrings = (DatabaseKeyring(),)


class OfAVariable(EnvironmentKeyAuthentication):
    header = HEADERS
    keyword = KEYWORDS
    variables = ("TEST_SEVERAL",)


class ByBasic(APIKeyAuthentication):
    keyword = "Basic"


class Guarded(APIView):
    authentication_classes: list[type[BaseAuthentication]] = [Several]
    permission_classes = [HasAPIKey]

    def get(self, request: Request, anything: str = "") -> Response:
        return Response({"for": str(request.user)})


def plain(request: HttpRequest, anything: str = "") -> JsonResponse:
    return JsonResponse({"for": str(request.user)})


async def asynchronous(request: HttpRequest, anything: str = "") -> JsonResponse:
    return JsonResponse({"for": str(request.user)})


@method_decorator(api_key_required(guard=SEVERAL), name="dispatch")
class OfAClass(View):
    def get(self, request: HttpRequest, anything: str = "") -> JsonResponse:
        return plain(request)


api = NinjaAPI(urls_namespace="several")


@api.get("/{anything}/", auth=APIKeyAuth(guard=SEVERAL))
def operation(request: HttpRequest, anything: str) -> dict[str, str]:
    return {"for": str(request.user)}


DOORS: dict[str, Any] = {
    "drf": Guarded.as_view(),
    "keyring": Guarded.as_view(authentication_classes=[OfAKeyring]),
    "plain": api_key_required(guard=SEVERAL)(plain),
    "async": api_key_required(guard=SEVERAL)(asynchronous),
    "class": OfAClass.as_view(),
    "or-user": api_key_required(guard=SEVERAL, or_user=True)(plain),
    "late": lambda request, anything: DOORS["plain"](request, anything),
}
urlpatterns = [
    *(path(f"{door}/<str:anything>/", view) for door, view in DOORS.items()),
    path("ninja/", api.urls),
    path("variable/", Guarded.as_view(authentication_classes=[OfAVariable])),
    path("basic-first/", Guarded.as_view(authentication_classes=[BasicAuthentication, ByBasic], permission_classes=[])),
    path("basic-last/", Guarded.as_view(authentication_classes=[ByBasic, BasicAuthentication], permission_classes=[])),
    path("session-first/", Guarded.as_view(authentication_classes=[SessionAuthentication, ByBasic])),
    path("session-last/", Guarded.as_view(authentication_classes=[ByBasic, SessionAuthentication])),
]


def basic(text: str) -> str:
    return "Basic " + b64encode(text.encode()).decode()


@pytest.fixture(autouse=True)
def urls(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__
    APIKey.objects.create(name="TTS", key=TOKEN)


@pytest.mark.parametrize("door", [*DOORS, "ninja"])
class TestDoors:
    @pytest.mark.parametrize("with_middleware", [True, False])
    def test_each_place_alone_and_all_together(self, settings: Settings, door: str, with_middleware: bool) -> None:
        if not with_middleware:
            settings.MIDDLEWARE = [each for each in settings.MIDDLEWARE if each != OURS]
        ways = [
            *({name: TOKEN} for name in HEADERS),
            *({"Authorization": f"{word} {TOKEN}"} for word in ("api-key", "TOKEN")),
            {"Authorization": basic(f"somebody:{TOKEN}")},
        ]
        ways += [{"X-API-Key": TOKEN, "X-Service": TOKEN, **way} for way in ways[2:]]
        for way in ways:
            answer = Client().get(f"/{door}/x/", headers=way)
            assert (answer.status_code, answer.json()) == (200, {"for": "key:TTS"}), way
        assert [row[:3] for row in rows()] == [("used", "", "TTS")] * len(ways)

    @pytest.mark.parametrize(
        "headers",
        [
            {"X-API-Key": TOKEN, "X-Service": WRONG},
            {"X-API-Key": WRONG, "Authorization": f"Token {TOKEN}"},
            {"X-Service": TOKEN, "Authorization": basic(f"u:{WRONG}")},
            {"Authorization": f"Api-Key {TOKEN}, {basic(f'u:{WRONG}')}"},
            {"Authorization": f"{basic(f'u:{WRONG}')},Bearer {TOKEN}"},
        ],
    )
    def test_two_keys_are_refused_and_neither_is_written_down(self, door: str, headers: dict[str, str]) -> None:
        encoded = basic(f"u:{WRONG}")[6:]
        headers = {"User-Agent": f"curl {WRONG} {encoded} u:{WRONG}", "X-Request-ID": TOKEN, **headers}
        answer = Client().get(f"/{door}/{TOKEN}/", headers=headers)
        assert answer.status_code == 400
        assert rows() == [("refused", "conflict", "", 400)]
        event = AuditEvent.objects.exclude(method="").get()
        assert (event.path, event.request_id) == (f"/{door}/********/", "********")
        assert WRONG not in event.user_agent
        assert ("Basic" in str(headers)) == (encoded not in event.user_agent)

    def test_a_refusal_names_all_that_may_be_sent(self, door: str) -> None:
        for headers in ({}, {"X-Service": WRONG}, {"Authorization": basic(f"u:{WRONG}")}):
            answer = Client().get(f"/{door}/x/", headers=headers)
            assert (answer.status_code, answer["WWW-Authenticate"]) == (401, CHALLENGE)
            assert answer["Cache-Control"] == "no-store"
            assert {*answer["Vary"].split(", ")} >= {"X-API-Key", "X-Service", "Authorization"}
        assert rows() == [("refused", "unknown", "", 401)] * 2


@pytest.mark.parametrize("door", ["drf", "async", "ninja"])
@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        *((text, "malformed") for text in ("Basic", "Basic !", "basic YTp", basic(""), basic("a:"), basic("a:é"))),
        *((basic(text), "malformed") for text in (TOKEN, "a:\0", f"a:{TOKEN}\0", "a:" + "k" * 1_000_000)),
        (basic(f"{TOKEN}:"), "malformed"),
        (basic(f"a:b:{TOKEN}"), "unknown"),
        (basic(f"a:{TOKEN},{TOKEN}"), "unknown"),
    ],
    ids=lambda value: value[:20],
)
def test_an_awkward_password_is_refused(door: str, authorization: str, reason: str) -> None:
    headers = {"Authorization": authorization, "User-Agent": authorization[6:]}
    answer = Client().get(f"/{door}/{TOKEN}/", headers=headers)
    assert answer.status_code == 401
    assert rows() == [("refused", reason, "", 401)]
    (event,) = AuditEvent.objects.exclude(method="").values()
    if len(authorization) > 20:
        assert authorization[6:200] not in str(event)


def test_an_async_server(settings: Settings) -> None:
    get = async_to_sync(AsyncClient().get)
    assert get("/async/x/", headers={"Authorization": basic(f":{TOKEN}")}).status_code == 200
    assert get("/async/x/", headers={"X-Service": TOKEN, "Authorization": f"Token {WRONG}"}).status_code == 400


def test_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_SEVERAL", INTERNAL)
    for headers in ({"X-Service": INTERNAL}, {"Authorization": basic(f"a:{INTERNAL}")}):
        assert Client().get("/variable/", headers=headers).json() == {"for": "env:TEST_SEVERAL"}


@pytest.mark.parametrize("way", [{"header": "X-Service"}, {"keyword": "Token"}, {"keyword": "Basic"}])
def test_the_client_for_tests_sends_its_key_there(way: dict[str, str]) -> None:
    client = APIKeyClient(**way)
    assert [client.get(f"/{door}/x/").status_code for door in ("drf", "late", "ninja")] == [200] * 3


def test_guards_that_read_the_same_are_one_decision() -> None:
    assert Guard(header=["x-service", "X_API_KEY", "X-API-Key"], keyword=["Basic", "TOKEN", "api-key"]) == SEVERAL
    assert Guard(header=HEADERS, keyword=KEYWORDS[:2]) != SEVERAL
    assert Guard() == Guard(header=("X-API-Key",), keyword=["Api-Key"])
    assert Guard(keyword=()) == Guard(keyword=None)
    assert "HTTP_X_SERVICE" in credentials.exposed


class TestBesideOthersThatReadBasic:
    """Whoever comes first answers for each user and password."""

    USER = "Basic " + b64encode(b"alice:correct horse").decode()

    @pytest.fixture(autouse=True)
    def alice(self) -> None:
        User.objects.create_user("alice", password="correct horse")

    def get(self, address: str, authorization: str = "") -> tuple[int, str]:
        answer = Client().get(address, headers={"Authorization": authorization} if authorization else {})
        return answer.status_code, answer.headers.get("WWW-Authenticate", "")

    def test_the_frameworks_own_first_refuses_keys(self) -> None:
        assert self.get("/basic-first/", self.USER) == (200, "")
        assert self.get("/basic-first/", basic(f"x:{TOKEN}")) == (401, 'Basic realm="api"')
        assert Client().get("/basic-first/", headers={"X-API-Key": TOKEN}).json() == {"for": "key:TTS"}

    def test_ours_first_refuses_users_and_tells_nobody_their_passwords(self) -> None:
        assert self.get("/basic-last/", basic(f"x:{TOKEN}")) == (200, "")
        assert self.get("/basic-last/", self.USER) == (401, 'Basic realm="api", charset="UTF-8"')
        assert rows() == [("used", "", "TTS", 200), ("refused", "unknown", "", 401)]
        assert "correct horse" not in str([*AuditEvent.objects.values()])

    @pytest.mark.parametrize("address", ["/session-first/", "/session-last/"])
    def test_a_session_needs_no_password(self, address: str) -> None:
        assert self.get(address, basic(f"x:{TOKEN}")) == (200, "")
        assert self.get(address, self.USER) == (401, 'Basic realm="api", charset="UTF-8"')
        # Its first authenticator has no challenge, so without any the framework says 403.
        asked = (401, 'Basic realm="api", charset="UTF-8"') if address == "/session-last/" else (403, "")
        assert self.get(address) == asked


class TestPlacesWhereNoKeyArrives:
    """The check of headers and keywords that are of the right type, and of no use."""

    @pytest.mark.parametrize("header", ["HTTP_X_SERVICE", "http-x-service", ("X-API-Key", "HTTP_X_SERVICE")])
    def test_a_name_of_meta(self, settings: Settings, header: Any) -> None:
        assert not found("keys.W038")
        settings.ROOT_URLCONF = (path("", api_key_required(guard=Guard(header=header))(plain)),)
        (message,) = found("keys.W038")
        assert "http-x-service" in message.lower()

    def test_one_header_read_in_two_ways(self, settings: Settings) -> None:
        view = Guarded.as_view(authentication_classes=[type("Whole", (Several,), {"header": "authorization"})])
        settings.ROOT_URLCONF = (path("", view),)
        (message,) = found("keys.W038")
        assert "after Api-Key or Token or basic" in message
        settings.ROOT_URLCONF = (path("", api_key_required(guard=Guard("Authorization", None))(plain)),)
        assert not found("keys.W038")
        assert Client().get("/", headers={"Authorization": TOKEN}).status_code == 200
