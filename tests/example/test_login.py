"""System A of the example, as users see it: the log-in and their own details."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.utils import timezone
from rest_framework_simplejwt.tokens import AccessToken

from keys.models import APIKey, AuditEvent
from tests.support.callers import bearer

pytestmark = pytest.mark.django_db

LOGIN = "/api/v1/auth/login/"


class TestOwnDetails:
    def test_by_bearer_token_and_by_cookie(self, client: Client, ada: User) -> None:
        address = f"/api/v1/users/{ada.pk}/"
        assert client.get(address, headers=bearer(ada)).json()["username"] == "ada"
        client.cookies["access_token"] = str(AccessToken.for_user(ada))
        response = client.get(address)
        assert response.json()["username"] == "ada"
        assert "no-store" in response["Cache-Control"]

    def test_bearer_token_comes_before_the_cookie(self, client: Client, ada: User, bob: User) -> None:
        client.cookies["access_token"] = str(AccessToken.for_user(ada))
        assert client.get(f"/api/v1/users/{bob.pk}/", headers=bearer(bob)).status_code == 200
        assert client.get(f"/api/v1/users/{ada.pk}/", headers={"Authorization": "Bearer x"}).status_code == 401

    @pytest.mark.parametrize("token", ["x", "a.b.c", "\x00", "é" * 20, "eyJhbGciOiJub25lIn0.e30."])
    def test_bad_cookie(self, client: Client, ada: User, token: str) -> None:
        client.cookies["access_token"] = token
        response = client.get(f"/api/v1/users/{ada.pk}/")
        assert response.status_code == 401
        assert response["WWW-Authenticate"] == 'Bearer realm="api"'

    def test_expired_token(self, client: Client, ada: User) -> None:
        token = AccessToken.for_user(ada)
        token.set_exp(from_time=timezone.now() - timedelta(days=1))
        response = client.get(f"/api/v1/users/{ada.pk}/", headers={"Authorization": f"Bearer {token}"})
        assert response.status_code == 401

    def test_of_others(self, client: Client, ada: User, bob: User) -> None:
        answers = [client.get(f"/api/v1/users/{pk}/", headers=bearer(ada)) for pk in (bob.pk, bob.pk + 1000, 10**30)]
        assert [answer.status_code for answer in answers] == [403, 403, 403]
        assert len({answer.content for answer in answers}) == 1

    def test_of_others_for_staff(self, client: Client, ada: User, bob: User) -> None:
        ada.is_staff = True
        ada.save()
        assert client.get(f"/api/v1/users/{bob.pk}/", headers=bearer(ada)).json()["username"] == "bob"
        assert client.get(f"/api/v1/users/{bob.pk + 1000}/", headers=bearer(ada)).status_code == 404

    def test_deactivated_user(self, client: Client, ada: User) -> None:
        headers = bearer(ada)
        ada.is_active = False
        ada.save()
        assert client.get(f"/api/v1/users/{ada.pk}/", headers=headers).status_code == 401

    def test_api_key_does_not_open_it(self, client: Client, ada: User) -> None:
        assert (
            client.get(
                f"/api/v1/users/{ada.pk}/", headers={"X-API-Key": APIKey.objects.create(name="TTS-Backend").key}
            ).status_code
            == 401
        )

    def test_api_key_beside_a_token_is_ignored(self, client: Client, ada: User) -> None:
        address = f"/api/v1/users/{ada.pk}/"
        key = APIKey.objects.create(name="TTS-Backend")
        client.cookies["access_token"] = str(AccessToken.for_user(ada))
        for headers in ({"X-API-Key": key.key}, {"X-API-Key": "nonsense"}, {"Authorization": f"Api-Key {key.key}"}):
            assert client.get(address, headers=headers).status_code == 200
        assert not AuditEvent.objects.filter(event__in=["used", "refused"]).exists()

    def test_answers_get_alone(self, client: Client, ada: User) -> None:
        for method in ("post", "put", "patch", "delete"):
            assert getattr(client, method)(f"/api/v1/users/{ada.pk}/", headers=bearer(ada)).status_code == 405


class TestLogin:
    def login(self, client: Client, username: Any, password: Any) -> Any:
        return client.post(LOGIN, {"username": username, "password": password}, content_type="application/json")

    @pytest.mark.parametrize("debug", [True, False])
    def test_sets_the_cookie(self, client: Client, ada: User, debug: bool) -> None:
        with override_settings(DEBUG=debug):
            response = self.login(client, "ada", "correct horse")
        assert response.status_code == 200
        cookie = response.cookies["access_token"]
        assert cookie.value == response.json()["access_token"]
        assert (cookie["httponly"], cookie["samesite"], bool(cookie["secure"])) == (True, "Lax", not debug)
        assert cookie["max-age"] == 3600
        assert "no-store" in response["Cache-Control"]
        assert client.get(f"/api/v1/users/{ada.pk}/").json()["username"] == "ada"

    def test_refuses_without_telling_who_exists(self, client: Client, ada: User, bob: User) -> None:
        User.objects.filter(pk=bob.pk).update(is_active=False)
        answers = [
            self.login(client, "ada", "wrong"),
            self.login(client, "nobody", "correct horse"),
            self.login(client, "bob", "battery staple"),
        ]
        assert [answer.status_code for answer in answers] == [401, 401, 401]
        assert len({answer.content for answer in answers}) == 1
        assert not any(answer.cookies for answer in answers)

    def test_is_open_to_those_with_a_stale_cookie(self, client: Client, ada: User) -> None:
        client.cookies["access_token"] = "stale"
        assert self.login(client, "ada", "correct horse").status_code == 200

    def test_takes_a_password_as_it_is(self, client: Client) -> None:
        User.objects.create_user("eve", password=" spaced out ")
        assert self.login(client, "eve", " spaced out ").status_code == 200
        assert self.login(client, "eve", "spaced out").status_code == 401

    @pytest.mark.parametrize(
        ("username", "password"),
        [("", ""), (None, "x"), ("\x00", "x"), ("ada", "\x00"), ("\ud800", "x"), (["ada"], "x"), ({}, "x")],
    )
    def test_malformed(self, client: Client, ada: User, username: Any, password: Any) -> None:
        assert self.login(client, username, password).status_code == 400

    def test_takes_no_form(self, client: Client, ada: User) -> None:
        assert client.post(LOGIN, {"username": "ada", "password": "correct horse"}).status_code == 415
