"""The form field for the owner of a key: a reference, or a part of a name that is looked up.

With scripts a list opens while somebody writes. Without them the form answers with what matches. Either way the field
is sent with a reference, so that nobody gets a key by a name that two have.
"""

from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminTextInputWidget
from django.core.exceptions import ValidationError
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from ..models import APIKey, owners
from ..redaction import printable
from .finding import holds_a_secret
from .owner_lookup import OwnerLookup, Shown

NAMED = 8  # owners of each model that an error names


class OwnerWidget(AdminTextInputWidget):
    """A text box with the owner's name below it. `owner.js` makes it a box that suggests, in the sense of ARIA."""

    class Media:
        js = ("keys/owner.js",)

    def __init__(self, lookup: OwnerLookup, url: str) -> None:
        super().__init__({"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"})
        self._lookup = lookup
        self._url = url if lookup.sees_some else ""

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        box = super().render(name, value, attrs, renderer)
        owner = None if not value or holds_a_secret(value) else self._lookup.one(value)
        return format_html(
            '<div class="keys-owner" data-url="{}" data-label="{}" data-none="{}" data-more="{}" data-failed="{}">'
            '{}<div class="keys-owner-name">{}</div></div>',
            self._url, _("Owners"), _("Nobody was found."), _("There are more: write more of the name."),
            _("The search failed. Write a reference."), box, _named(owner),
        )  # fmt: skip


def _named(owner: Shown | None) -> Any:
    """Return the owner's name for the place below its reference; nothing where there is no more to say."""
    return "" if owner is None or not (owner.name or owner.kind) else owner.html


class OwnerField(forms.CharField):
    """The reference of an owner. What else somebody writes is settled by `settled`."""

    def __init__(self, lookup: OwnerLookup, url: str) -> None:
        self._lookup = lookup
        example = f"{next(iter(owners.models()))}:7"
        help_text = _("Whose key it is: a reference, such as %(example)s. It is refused when its owner is gone.")
        if lookup.sees_some:
            help_text = _(
                "Whose key it is: write a part of a name and choose, or a reference, such as %(example)s."
                " The key is refused when its owner is gone or inactive. Empty: a service's own key."
            )
        super().__init__(
            required=False, max_length=owners.MAX_LENGTH, widget=OwnerWidget(lookup, url),
            label=capfirst(str(APIKey._meta.get_field("owner_ref").verbose_name)),
            help_text=help_text % {"example": example},
        )  # fmt: skip

    def settled(self, text: str) -> str:
        """Return the reference for what somebody wrote: itself, or that of the only owner of this name.

        Raises ValidationError, which names those that match.
        """
        try:
            owners.parse(text)
            return text
        except ValidationError as error:
            if holds_a_secret(text):
                raise ValidationError(_("This is no owner."), code="secret") from None
            mistake = error
        found, has_more = self._lookup.search(text, NAMED)
        same = [one.ref for one in found if one.name == text]
        if len(same) == 1 and not has_more:
            return same[0]
        if not found:
            raise mistake
        named = ", ".join(f"{one.name} ({one.ref})" for one in found)
        message = _("Write the reference of one of these: %(found)s.")
        if has_more:
            message = _("Write the reference of one of these, or more of the name: %(found)s, …")
        raise ValidationError(message, code="several", params={"found": named})


class OwnerForm:
    """The part of a key's form that looks at its owner."""

    cleaned_data: dict[str, Any]
    changed_data: Any
    fields: Any

    def clean_owner_ref(self) -> str:
        """Return the owner's reference. One that nobody changed is not looked at: its owner may be gone."""
        text: str = self.cleaned_data["owner_ref"]
        if not text or "owner_ref" not in self.changed_data:
            return text
        field = self.fields["owner_ref"]
        return checked(field.settled(text) if isinstance(field, OwnerField) else text)


def checked(ref: str) -> str:
    """Return the reference of an owner whose keys are accepted. Raises ValidationError for another."""
    owners.parse(ref)
    params = {"owner": printable(ref)}
    try:
        owner = owners.find(ref)
        may_have_keys = owners.may_have_keys(owner)
    except owners.OwnerUnknownError:
        message = _("Nobody can say now whether %(owner)s may have keys. Try again later.")
        raise ValidationError(message, code="unknown", params=params) from None
    if owner is None:
        raise ValidationError(_("There is no %(owner)s."), code="gone", params=params)
    if not may_have_keys:
        message = _("%(owner)s is inactive, or may have no keys: the key would be refused.")
        raise ValidationError(message, code="refused", params=params)
    return ref
