"""System checks of gateways: their scopes, their guards, and what they know of the proxy that asks."""

from typing import Any, ClassVar

import pytest
from django.db import connection, transaction
from django.urls import include, path, re_path
from pytest_django import Settings

from keys.decorators import api_key_required
from keys.endpoints import endpoints
from keys.gateway import ForwardAuthView, IntrospectionView
from keys.models import APIKey
from keys.verification import Guard
from tests.gateway.asking import hiding, watched
from tests.support.commands import found, serve

LOGIN = "django.contrib.auth.middleware.LoginRequiredMiddleware"
SECURITY = "django.middleware.security.SecurityMiddleware"
OURS = "keys.middleware.APIKeyMiddleware"


@pytest.mark.parametrize("scopes", [None, "", 7, {}, {"orders:read"}, ["orders:read", None], [""], "orders", ["a b:c"]])
def test_scopes_that_are_none(settings: Settings, scopes: Any) -> None:
    serve(settings, watched(ForwardAuthView.as_view(scopes=scopes)))
    assert len(found("keys.E042")) == 1
    assert not found("keys.E010")


def test_scopes_of_a_subclass(settings: Settings) -> None:
    class Door(ForwardAuthView):
        scopes: ClassVar[Any] = None

    class Asking(IntrospectionView):
        scopes: ClassVar[Any] = "introspect"

    serve(settings, Door.as_view(), Asking.as_view(), Door.as_view(scopes="orders:read"), IntrospectionView.as_view())
    assert len(found("keys.E042")) == 2


def test_scopes_that_are_not_registered(settings: Settings) -> None:
    serve(settings, ForwardAuthView.as_view(scopes="orders:red"), watched(ForwardAuthView.as_view(scopes=["a:b"])))
    assert len(found("keys.E009")) == 2
    serve(settings, ForwardAuthView.as_view(scopes="orders:*"), ForwardAuthView.as_view(scopes=()))
    assert not found("keys.E009")
    assert not found("keys.E042")


def test_a_captured_path_without_scopes(settings: Settings) -> None:
    door, asking = ForwardAuthView.as_view(), ForwardAuthView.as_view(scopes="orders:read")
    open_door = ForwardAuthView.as_view(scopes=[])
    urls = [
        path("a/<path:path>", door), re_path("^b/(?P<path>.*)$", watched(door)),
        path("c/", include([path("<path>", door)])), path("d/", door),
        path("e/<path:path>", asking), path("f/<path:path>", open_door),
    ]  # fmt: skip
    for number in range(3):
        settings.ROOT_URLCONF = tuple(urls[number : number + 1])
        assert len(found("keys.W015")) == 1, urls[number]
    settings.ROOT_URLCONF = tuple(urls[3:])
    assert not found("keys.W015")


def test_a_captured_path_has_its_prefix_to_itself(settings: Settings) -> None:
    door, asking = ForwardAuthView.as_view(), ForwardAuthView.as_view(scopes="orders:read")
    for captured in (path("a/<path:path>", asking), re_path("^a/(?P<path>.*)$", watched(asking))):
        settings.ROOT_URLCONF = (path("a/", door), captured)
        assert len(found("keys.E043")) == 1
        settings.ROOT_URLCONF = (re_path("^a/$", door), captured)
        assert len(found("keys.E043")) == 1
        settings.ROOT_URLCONF = (path("b/", door), path("a/b/", door), captured)
        assert not found("keys.E043")


def test_guards_that_cannot_work(settings: Settings) -> None:
    wrong: Any = Guard(header=7)  # type: ignore[arg-type]
    serve(settings, ForwardAuthView.as_view(guard=wrong))
    assert len(found("keys.E023")) == 1
    serve(settings, ForwardAuthView.as_view(guard=Guard(header="HTTP_X_API_KEY")))
    assert len(found("keys.W038")) == 1
    with pytest.raises(TypeError, match="needs a Guard"):
        ForwardAuthView.as_view(guard="X-API-Key")
    # Nothing is left to anybody here.
    serve(settings, ForwardAuthView.as_view(guard=Guard(leaves_unknown=True)))
    assert not found("keys.W040")


@pytest.mark.parametrize(("number", "said"), [(0, 1), (1, 0), (2, 0)])
def test_it_knows_its_proxy(settings: Settings, number: int, said: int) -> None:
    settings.KEYS = {"TRUSTED_PROXIES": number}
    serve(settings, ForwardAuthView.as_view(), watched(ForwardAuthView.as_view(scopes="orders:read")))
    assert len(found("keys.W043", deploy=True)) == said
    assert not found("keys.W043")
    serve(settings, IntrospectionView.as_view())
    assert not found("keys.W043", deploy=True)


def test_it_is_not_answered_with_a_redirect(settings: Settings) -> None:
    serve(settings, ForwardAuthView.as_view())
    assert not found("keys.W044", deploy=True)
    settings.SECURE_SSL_REDIRECT = True
    assert len(found("keys.W044", deploy=True)) == 1
    settings.SECURE_REDIRECT_EXEMPT = [r"^0/$"]
    assert not found("keys.W044", deploy=True)
    settings.SECURE_REDIRECT_EXEMPT = []
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert not found("keys.W044", deploy=True)
    settings.SECURE_PROXY_SSL_HEADER = None
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if name != SECURITY]
    assert not found("keys.W044", deploy=True)


@pytest.mark.django_db
class TestOtherChecks:
    def test_without_the_middleware(self, settings: Settings) -> None:
        serve(settings, ForwardAuthView.as_view())
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if name != OURS]
        assert len(found("keys.W001")) == 1

    def test_rates(self, settings: Settings) -> None:
        APIKey.objects.create(name="Busy", rate="1/min")
        serve(settings, ForwardAuthView.as_view(), watched(ForwardAuthView.as_view()), IntrospectionView.as_view())
        assert not found("keys.W010", databases=["default"])
        assert len(found("keys.W026", deploy=True)) <= 1
        serve(settings, ForwardAuthView.as_view(throttle_classes=[]))
        assert len(found("keys.W010", databases=["default"])) == 1

    def test_the_login_page(self, settings: Settings) -> None:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, LOGIN]
        serve(settings, ForwardAuthView.as_view(), watched(ForwardAuthView.as_view()))
        assert not found("keys.W016")
        serve(settings, hiding(ForwardAuthView.as_view()))
        assert len(found("keys.W016")) == 1

    def test_transactions(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
        serve(settings, transaction.non_atomic_requests(ForwardAuthView.as_view()), watched(ForwardAuthView.as_view()))
        assert [found(check) for check in ("keys.W002", "keys.W003", "keys.W019")] == [[], [], []]
        serve(settings, hiding(ForwardAuthView.as_view()))
        assert len(found("keys.W019")) == 1

    def test_owners_and_plain_gateways(self, settings: Settings) -> None:
        serve(settings, ForwardAuthView.as_view(guard=Guard(acts_as_owner=True)))
        assert len(found("keys.W031")) == 1
        # Its scopes are the proxy's to name.
        assert not found("keys.W015")


def test_they_are_seen_wherever_they_are(settings: Settings) -> None:
    door = ForwardAuthView.as_view(scopes="orders:read")
    settings.FORCE_SCRIPT_NAME = "/auth"
    settings.ROOT_URLCONF = (
        path("a/", include(([path("b/", watched(door), name="door")], "inner"))),
        path("c/", api_key_required("users:read")(door), name="twice"),
    )
    seen = endpoints()
    assert [(each.address, each.name) for each in seen] == [("/a/b/", "inner:door"), ("/c/", "twice")]
    assert all(each.source is ForwardAuthView and each.asks_for_a_key for each in seen)
    assert [{*each.guard_scopes} for each in seen] == [{"orders:read"}, {"orders:read", "users:read"}]
