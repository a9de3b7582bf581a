"""Does what a browser does with the admin's pages: submits a form as it was rendered."""

from dataclasses import dataclass, field
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


@dataclass
class Form:
    """A form of a page: where it is sent, and what a browser would send unchanged."""

    id: str
    action: str
    fields: dict[str, list[str]] = field(default_factory=dict)


class _FormReader(HTMLParser):
    """Reads the forms of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.inside = False
        self.area: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.inside = True
            self.forms.append(Form(given.get("id", ""), given.get("action", "")))
        name = given.get("name", "")
        if not self.inside or not name:
            return
        kind = given.get("type", "text")
        values = self.forms[-1].fields
        if tag == "textarea":
            self.area = name
            values.setdefault(name, []).append("")
        elif tag == "input" and kind != "submit" and (kind not in {"checkbox", "radio"} or "checked" in given):
            values.setdefault(name, []).append(given.get("value", "on" if kind == "checkbox" else ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self.area = None
        elif tag == "form":
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.area is not None:
            self.forms[-1].fields[self.area][-1] += data.removeprefix("\n")


def forms_of(response: HttpResponseBase) -> list[Form]:
    """Return the forms of a page."""
    reader = _FormReader()
    reader.feed(text_of(response))
    return reader.forms


def form_of(response: HttpResponseBase, form_id: str = "apikey_form") -> dict[str, Any]:
    """Return what the form of a page would submit unchanged."""
    return dict(next(form.fields for form in forms_of(response) if form.id == form_id))
