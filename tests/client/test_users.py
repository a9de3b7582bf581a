"""The calling side when it calls for a user: `forward_user`."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.http import HttpRequest
from django.test import RequestFactory
from rest_framework.request import Request

from keys.client import APIKeySession, KeyRefused
from tests.support.recording_service import Answer, RecordingService, redirect

OLD = "0000000000000000000000000000000000000000"
NEW = "1111111111111111111111111111111111111111"
JWT = "header.payload.signature"


@pytest.fixture
def service() -> Iterator[RecordingService]:
    """A service after the rotation: it knows the new key alone."""
    with RecordingService(NEW) as service:
        yield service


@pytest.fixture
def session(service: RecordingService) -> Iterator[APIKeySession]:
    with APIKeySession(service.url, OLD, next_key=NEW) as session:
        yield session


def user_request(**headers: str) -> HttpRequest:
    return RequestFactory().get("/", headers=headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {JWT}"},
        {"Authorization": f"bearer  {JWT} "},
        {"Authorization": f"Bearer {JWT}", "Cookie": "access_token=another"},
        {"Authorization": "Basic dTpw", "Cookie": f"access_token={JWT}"},
        {"Cookie": f"access_token={JWT}"},
    ],
)
@pytest.mark.parametrize("is_drf", [False, True])
def test_forwards_the_users_token(
    service: RecordingService, session: APIKeySession, headers: dict[str, str], is_drf: bool
) -> None:
    request = user_request(**headers)
    assert session.forward_user(Request(request) if is_drf else request).get("/x").ok
    assert session.get("/x").ok
    assert [received.headers["Authorization"] for received in service.received] == [f"Bearer {JWT}"] * 2 + [None]
    assert service.received_keys == [OLD, NEW, NEW]  # and what it learned of the keys, its maker knows


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer"}, {"Authorization": "Basic dTpw"}, {"Cookie": "access_token="}]
)
def test_a_request_without_a_user_is_not_forwarded(session: APIKeySession, headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="The request carries no user"):
        session.forward_user(user_request(**headers))


def test_a_broken_token_is_not_forwarded(session: APIKeySession) -> None:
    with pytest.raises(ValueError, match="The user's JWT holds characters") as caught:
        session.forward_user(user_request(Authorization=f"Bearer {JWT}é"))
    assert JWT not in str(caught.value)


def test_the_users_token_is_for_the_origin_alone(service: RecordingService, session: APIKeySession) -> None:
    with RecordingService() as stranger:
        service.answers["/away"] = [redirect(f"{stranger.url}/")]
        stranger.answers["/"] = [Answer()]
        user_session = session.forward_user(user_request(Authorization=f"Bearer {JWT}"))
        assert user_session.get("/away").ok
        assert user_session.get(f"{stranger.url}/").ok
        assert [received.headers["Authorization"] for received in stranger.received] == [None, None]


def test_the_users_token_goes_before_netrc(
    service: RecordingService, session: APIKeySession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    service.answers["/old"] = [redirect("/x")]
    assert session.forward_user(user_request(Authorization=f"Bearer {JWT}")).get("/old").ok
    assert {received.headers["Authorization"] for received in service.received} == {f"Bearer {JWT}"}


def test_what_netrc_holds_for_a_stranger_is_not_brought_back(
    service: RecordingService, session: APIKeySession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine localhost login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with RecordingService() as stranger:
        service.answers["/away"] = [redirect(f"http://localhost:{stranger.server_port}/back")]
        stranger.answers["/back"] = [redirect(f"{service.url}/public")]
        service.answers["/public"] = [Answer()]
        assert session.get("/away").ok
        assert stranger.received[0].headers["Authorization"].startswith("Basic ")
    assert [received.headers["Authorization"] for received in service.received] == [None, None]


def test_a_users_session_shares_connections_but_no_state(service: RecordingService, session: APIKeySession) -> None:
    service.answers["/login"] = [Answer(headers={"Set-Cookie": "sessionid=alice"})]
    session.headers["X-Request-ID"] = "7"
    session.get("/login")
    with session.forward_user(user_request(Authorization=f"Bearer {JWT}")) as user_session:
        assert user_session.get("/x").ok
        user_session.headers["X-Request-ID"] = "8"
        user_session.hooks["response"].append(lambda *args, **kwargs: pytest.fail("a hook of another session"))
    assert session.get("/x").ok
    assert [received.headers["X-Request-ID"] for received in service.received] == ["7", "7", "7", "7"]
    assert [received.headers["Cookie"] for received in service.received] == [None, None, None, "sessionid=alice"]
    assert len({received.client_port for received in service.received}) == 1


def test_a_401_about_the_user_is_an_answer(service: RecordingService, session: APIKeySession) -> None:
    service.answers["/mine"] = [Answer(401, {"WWW-Authenticate": 'Bearer realm="api"'})]
    with pytest.raises(KeyRefused):
        session.get("/mine")
    service.received.clear()
    assert session.forward_user(user_request(Cookie=f"access_token={JWT}")).get("/mine").status_code == 401
    assert service.received_keys == [OLD]
