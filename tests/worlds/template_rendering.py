"""Whether a project's own templates can be rendered: Django reads the tag libraries of all apps for the first one."""

from django.http import HttpRequest
from django.template import engines
from django.template.loader import render_to_string


def renders() -> None:
    """A template of another package, and one that uses what every project uses."""
    assert "<" in render_to_string("rest_framework/base.html", {}, HttpRequest())
    template = engines["django"].from_string("{% load i18n l10n %}{% translate 'Home' %} {{ number|localize }}")
    assert template.render({"number": 1}) == "Home 1"
