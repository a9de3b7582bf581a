"""Form fields for a key for which HTML has no input."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.utils.html import format_html
from django.utils.translation import gettext as _

from ..conf import sentence_of


class LinesField(forms.Field):
    """A list of short texts, one per line. Empty lines and surrounding white space are ignored."""

    widget = forms.Textarea(attrs={"rows": 4, "cols": 40, "spellcheck": "false", "autocapitalize": "off"})

    def to_python(self, value: Any) -> list[str]:
        lines = value if isinstance(value, list | tuple) else (value or "").splitlines()
        return [text for line in lines if (text := line.strip())]

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list | tuple) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return not self.disabled and self.to_python(initial) != self.to_python(data)


class NoteField(forms.CharField):
    """A text of several lines. Browsers end lines with two characters, which is no change."""

    def to_python(self, value: Any) -> str:
        return str(super().to_python(value)).replace("\r\n", "\n").replace("\r", "\n")

    def has_changed(self, initial: Any, data: Any) -> bool:
        return not self.disabled and self.to_python(initial) != self.to_python(data)


class ScopesField(forms.MultipleChoiceField):
    """A check box for each registered scope, with its explanation.

    Other scopes that the key holds, such as wildcards or scopes that are no longer registered, get a box too, so
    that saving the form does not silently drop them.
    """

    widget = forms.CheckboxSelectMultiple

    def __init__(self, *, registered: Any, held: Iterable[str], **kwargs: Any) -> None:
        gone = _("No longer registered in KEYS[“SCOPES”]. Untick it to change the other scopes.")
        extra = {scope: sentence_of(scope) or gone for scope in held if scope not in registered}
        super().__init__(
            choices=[(scope, format_html("<code>{}</code> {}", scope, text)) for scope, text in
                     {**registered, **extra}.items()],
            **kwargs,
        )  # fmt: skip
