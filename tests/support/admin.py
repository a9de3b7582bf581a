"""Does what a browser does with the admin's pages: submits a form as it was rendered."""

from html.parser import HTMLParser
from typing import Any

from django.contrib.auth.models import Permission, User
from django.http.response import HttpResponseBase
from django.test import Client
from django.urls import reverse

from keys.models import APIKey

LIST = "/admin/keys/apikey/"
ADD = "/admin/keys/apikey/add/"
ROTATE = "/admin/keys/apikey/rotate/"
DEACTIVATE = "/admin/keys/apikey/deactivate/"
LOG = "/admin/keys/auditevent/"
USAGE = "/admin/keys/auditevent/usage/"


def page_of(key: APIKey, page: str = "change") -> str:
    return reverse(f"admin:keys_apikey_{page}", args=[key.pk])


def text_of(response: HttpResponseBase) -> str:
    return str(response.content.decode())  # type: ignore[attr-defined]


def staff(*permissions: str, username: str = "alice") -> Client:
    """Return the browser of a member of staff with these permissions, such as `view_apikey`."""
    user = User.objects.create_user(username, password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


class _FormReader(HTMLParser):
    """Reads the fields of the page's main form with the values that a browser would send."""

    def __init__(self, form_id: str) -> None:
        super().__init__()
        self.form_id = form_id
        self.inside = False
        self.fields: dict[str, list[str]] = {}
        self.area: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.inside = given.get("id") == self.form_id
        name = given.get("name", "")
        if not self.inside or not name:
            return
        kind = given.get("type", "text")
        if tag == "textarea":
            self.area = name
            self.fields.setdefault(name, []).append("")
        elif tag == "input" and kind != "submit" and (kind not in {"checkbox", "radio"} or "checked" in given):
            self.fields.setdefault(name, []).append(given.get("value", "on" if kind == "checkbox" else ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self.area = None
        elif tag == "form":
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.area is not None:
            self.fields[self.area][-1] += data.removeprefix("\n")


def form_of(response: HttpResponseBase, form_id: str = "apikey_form") -> dict[str, Any]:
    """Return what the form of a page would submit unchanged."""
    reader = _FormReader(form_id)
    reader.feed(text_of(response))
    return dict(reader.fields)
