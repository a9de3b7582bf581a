"""The way from an owner to the keys, for which a project's own pages include a class."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from django.apps import apps
from django.contrib.admin import ModelAdmin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.db.models import Model
from django.http import HttpRequest
from django.test import Client

from keys.admin import APIKeyAdmin, AuditEventAdmin, OwnedKeysMixin
from keys.models import APIKey, AuditEvent
from keys.models.owners import ref_of
from tests.admin.conftest import Mount
from tests.ownership import models
from tests.support.admin import form_of, staff, text_of
from tests.support.crawling import links_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def owned(settings: Any) -> None:
    settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User"]}


@pytest.fixture
def anna(owned: None) -> User:
    return User.objects.create_user("anna", "anna@example.org", last_name="Smith", pk=1234)


@pytest.fixture
def key(anna: User) -> APIKey:
    return APIKey.objects.create(name="TTS", owner_ref="auth.user:1234")


def found(client: Client, text: str, url: str) -> list[str]:
    return [one["ref"] for one in client.post(url, {"q": text}).json()["found"]]


class Users(OwnedKeysMixin, UserAdmin):  # type: ignore[type-arg]
    pass


class Plain(OwnedKeysMixin, ModelAdmin):  # type: ignore[type-arg]
    pass


class Placed(OwnedKeysMixin, ModelAdmin):  # type: ignore[type-arg]
    fields = ("username", "owned_keys")


EVERYTHING: dict[type[Model], type[Any]] = {APIKey: APIKeyAdmin, AuditEvent: AuditEventAdmin, User: Users}


def test_the_keys_are_one_click_from_their_owner(admin_client: Client, key: APIKey, mount: Mount) -> None:
    mount(EVERYTHING)
    APIKey.objects.create(name="Ended", owner_ref=key.owner_ref, is_active=False)
    page = "/office/auth/user/1234/change/"
    answer = admin_client.get(page)
    assert "1 accepted of 2" in text_of(answer)
    keys, add = (link for link in links_of(answer, page) if "owner=" in link)
    assert sorted(one.name for one in admin_client.get(keys).context["cl"].result_list) == ["Ended", "TTS"]
    assert form_of(admin_client.get(add))["owner_ref"] == ["auth.user:1234"]
    assert "owned_keys" not in text_of(admin_client.get("/office/auth/user/add/"))
    form = form_of(answer, "user_form")
    assert admin_client.post(page, {**form, "first_name": "Anne"}).status_code == 302, form


@pytest.mark.matrix
@pytest.mark.parametrize("name", ["Company", "Shop", "Till", "Project", "Hotel"])
def test_an_owner_of_any_model_is_found_and_shown(admin_client: Client, settings: Any, mount: Mount, name: str) -> None:
    model: Any = getattr(models, name)
    settings.KEYS = {**settings.KEYS, "OWNERS": [f"ownership.{name}"]}
    given: dict[str, Any] = {"code": "a/b_c d:é"} if name == "Shop" else {}
    if name == "Till":
        given = {"shop": models.Shop.objects.create(code="a/b_c d:é")}
    owner = model.objects.create(**given)
    ref = ref_of(owner)
    APIKey.objects.create(name="TTS", owner_ref=ref)
    mount({APIKey: APIKeyAdmin, AuditEvent: AuditEventAdmin, model: Plain})
    keys = "/office/keys/apikey/"
    (page,) = (link for link in links_of(admin_client.get(keys), keys) if "ownership" in link and "change" in link)
    (link, _) = (link for link in links_of(admin_client.get(page), page) if "owner=" in link)
    for query in (link, f"{keys}?{urlencode({'q': ref})}", f"{keys}?{urlencode({'q': owner.pk})}"):
        assert [key.name for key in admin_client.get(query).context["cl"].result_list] == ["TTS"], query
    assert found(admin_client, str(owner.pk), f"{keys}owners/") == [ref]


@pytest.mark.parametrize("pages", [Placed, Users])
def test_who_may_see_no_keys_sees_no_link_to_them(key: APIKey, mount: Mount, pages: type[Any]) -> None:
    mount({**EVERYTHING, User: pages})
    page = "/office/auth/user/1234/change/"
    without = staff("view_user", "change_user", username="carol").get(page)
    assert "owned_keys" not in text_of(without)
    assert "apikey" not in text_of(without)
    reader = staff("view_user", "view_apikey", username="dave").get(page)
    assert text_of(reader).count("1 accepted of 1") == 1
    assert not [link for link in links_of(reader, page) if "/apikey/add/" in link]


def test_the_link_leads_to_pages_that_are_not_ours_too(admin_client: Client, key: APIKey, mount: Mount) -> None:
    class OtherFilters(APIKeyAdmin):
        def get_list_filter(self, request: HttpRequest) -> Any:
            return ("is_active",)

    page = "/office/auth/user/1234/change/"
    APIKey.objects.create(name="Nobody's")
    for pages in (ModelAdmin, OtherFilters):
        mount({**EVERYTHING, APIKey: pages})
        keys, add = (link for link in links_of(admin_client.get(page), page) if "/apikey/?" in link or "owner" in link)
        assert [one.name for one in admin_client.get(keys).context["cl"].result_list] == ["TTS"]
        assert form_of(admin_client.get(add))["owner_ref"] == ["auth.user:1234"]
    mount({User: Users})
    assert "owned_keys" not in text_of(admin_client.get(page))


@pytest.fixture
def proxy() -> Iterator[type[APIKey]]:
    class PersonalKey(APIKey):
        class Meta:
            proxy = True
            app_label = "keys"

    yield PersonalKey
    del apps.all_models["keys"]["personalkey"]
    apps.clear_cache()


def test_a_site_may_have_a_subclass_of_keys_alone(
    admin_client: Client, key: APIKey, mount: Mount, proxy: type[APIKey]
) -> None:
    mount({proxy: APIKeyAdmin, User: Users})
    page = "/office/auth/user/1234/change/"
    links = [link for link in links_of(admin_client.get(page), page) if "owner=" in link]
    assert links == [f"/office/keys/personalkey/{end}?owner=auth.user%3A1234" for end in ("", "add/")]
    assert 'data-url="/office/keys/personalkey/owners/"' in text_of(admin_client.get(links[1]))
    assert found(admin_client, "smith", "/office/keys/personalkey/owners/") == ["auth.user:1234"]


def test_who_deletes_an_owner_is_told_which_keys_end(admin_client: Client, key: APIKey, mount: Mount) -> None:
    mount(EVERYTHING)
    other = User.objects.create_user("bob")
    APIKey.objects.create(name="Bob's", owner_ref=ref_of(other))
    page = "/office/auth/user/1234/delete/"
    assert f'<a href="/office/keys/apikey/{key.pk}/change/">TTS' in text_of(admin_client.get(page))
    assert "API keys that are refused from then on: 1" in text_of(admin_client.get(page))
    admin_client.post(page, {"post": "yes"})
    selected = {"action": "delete_selected", "_selected_action": [other.pk]}
    assert "Bob&#x27;s" in text_of(admin_client.post("/office/auth/user/", selected))
    admin_client.post("/office/auth/user/", {**selected, "post": "yes"})
    assert not APIKey.objects.accepted().exists()
    ends = AuditEvent.objects.filter(event="deactivated").order_by("id").values_list("actor", "owner", "detail")
    assert [*ends] == [
        ("user: admin", f"auth.user:{pk}", f"owner auth.user:{pk} was deleted") for pk in (1234, other.pk)
    ]
