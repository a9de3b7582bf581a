"""The calling side when it calls for a user: `forward_user`."""

from pathlib import Path

import pytest
from django.http import HttpRequest
from django.test import RequestFactory
from rest_framework.request import Request

from keys.client import APIKeySession, KeyRefused
from tests.support.recording_service import NEW, OLD, Answer, RecordingService, redirect

JWT = "header.payload.signature"


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
    service: RecordingService, rotating: APIKeySession, headers: dict[str, str], is_drf: bool
) -> None:
    request = user_request(**headers)
    assert rotating.forward_user(Request(request) if is_drf else request).get("/x").ok
    assert rotating.get("/x").ok
    assert [received.headers["Authorization"] for received in service.received] == [f"Bearer {JWT}"] * 2 + [None]
    assert service.received_keys == [OLD, NEW, NEW]  # and what it learned of the keys, its maker knows


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer"}, {"Authorization": "Basic dTpw"}, {"Cookie": "access_token="}]
)
def test_a_request_without_a_user_is_not_forwarded(rotating: APIKeySession, headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="The request carries no user"):
        rotating.forward_user(user_request(**headers))


def test_a_broken_token_is_not_forwarded(rotating: APIKeySession) -> None:
    with pytest.raises(ValueError, match="The user's JWT holds characters") as caught:
        rotating.forward_user(user_request(Authorization=f"Bearer {JWT}é"))
    assert JWT not in str(caught.value)


def test_the_users_token_is_for_the_origin_alone(service: RecordingService, rotating: APIKeySession) -> None:
    with RecordingService() as stranger:
        service.answers["/away"] = [redirect(f"{stranger.url}/")]
        stranger.answers["/"] = [Answer()]
        user_session = rotating.forward_user(user_request(Authorization=f"Bearer {JWT}"))
        assert user_session.get("/away").ok
        assert user_session.get(f"{stranger.url}/").ok
        assert [received.headers["Authorization"] for received in stranger.received] == [None, None]


def test_the_users_token_goes_before_netrc(
    service: RecordingService, rotating: APIKeySession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    service.answers["/old"] = [redirect("/x")]
    assert rotating.forward_user(user_request(Authorization=f"Bearer {JWT}")).get("/old").ok
    assert {received.headers["Authorization"] for received in service.received} == {f"Bearer {JWT}"}


def test_what_netrc_holds_for_a_stranger_is_not_brought_back(
    service: RecordingService, rotating: APIKeySession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine localhost login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with RecordingService() as stranger:
        service.answers["/away"] = [redirect(f"http://localhost:{stranger.server_port}/back")]
        stranger.answers["/back"] = [redirect(f"{service.url}/public")]
        service.answers["/public"] = [Answer()]
        assert rotating.get("/away").ok
        assert stranger.received[0].headers["Authorization"].startswith("Basic ")
    assert [received.headers["Authorization"] for received in service.received] == [None, None]


def test_a_users_session_shares_connections_but_no_state(service: RecordingService, rotating: APIKeySession) -> None:
    service.answers["/login"] = [Answer(headers={"Set-Cookie": "sessionid=alice"})]
    rotating.headers["X-Request-ID"] = "7"
    rotating.get("/login")
    with rotating.forward_user(user_request(Authorization=f"Bearer {JWT}")) as user_session:
        assert user_session.get("/x").ok
        user_session.headers["X-Request-ID"] = "8"
        user_session.hooks["response"].append(lambda *args, **kwargs: pytest.fail("a hook of another rotating"))
    assert rotating.get("/x").ok
    assert [received.headers["X-Request-ID"] for received in service.received] == ["7", "7", "7", "7"]
    assert [received.headers["Cookie"] for received in service.received] == [None, None, None, "sessionid=alice"]
    assert len({received.client_port for received in service.received}) == 1


def test_a_401_about_the_user_is_an_answer(service: RecordingService, rotating: APIKeySession) -> None:
    service.answers["/mine"] = [Answer(401, {"WWW-Authenticate": 'Bearer realm="api"'})]
    with pytest.raises(KeyRefused):
        rotating.get("/mine")
    service.received.clear()
    assert rotating.forward_user(user_request(Cookie=f"access_token={JWT}")).get("/mine").status_code == 401
    assert service.received_keys == [OLD]
