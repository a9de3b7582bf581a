"""The forms of a key: to create, to change and to rotate it."""

import uuid
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.core import signing
from django.utils import timezone
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from .. import moments
from ..conf import conf
from ..models import APIKey
from .fields import LinesField, NoteField, ScopesField
from .owner_field import OwnerForm

FIELDS: tuple[str, ...] = ("name", "owner_ref", "note", "scopes", "expires_at", "allowed_ips", "rate")


class MomentWidget(forms.SplitDateTimeWidget):
    """A date and a time in the browser's own pickers, which need no script."""

    def __init__(self) -> None:
        day: dict[str, Any] = {"type": "date", "aria-label": _("Day")}
        time: dict[str, Any] = {"type": "time", "step": "1", "aria-label": _("Time")}
        super().__init__(date_attrs=day, time_attrs=time, date_format="%Y-%m-%d", time_format="%H:%M:%S")


class KeyForm(OwnerForm, forms.ModelForm):  # type: ignore[type-arg]
    """The common part of the forms to create and to change a key."""

    expires_at = forms.SplitDateTimeField(
        required=False, widget=MomentWidget, label=_("Expires at"),
        # As browsers send them, whatever formats the site has for people.
        input_date_formats=["%Y-%m-%d"], input_time_formats=["%H:%M:%S", "%H:%M", "%H:%M:%S.%f"],
    )  # fmt: skip
    allowed_ips = LinesField(
        required=False,
        label=_("Allowed networks"),
        help_text=_(
            "One IPv4 or IPv6 address or network per line, such as 10.0.0.0/8 or 2001:db8::/32."
            " From anywhere else the key is refused. Empty: it may be used from anywhere."
        ),
    )

    class Meta:
        model = APIKey
        fields: tuple[str, ...] = FIELDS
        field_classes = {"note": NoteField}
        widgets = {"note": forms.Textarea(attrs={"rows": 3, "cols": 40})}
        help_texts = {
            "name": _("The service that will hold the key, as you want to read it in the audit log."),
            "rate": _(
                "At most so many requests, such as 100/min, 5/s or 10000/day; beyond that the answer is 429."
                " Enforced where a view has APIKeyRateThrottle. Empty: no limit."
            ),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "scopes" in self.fields:  # not for staff who may only view
            self.fields["scopes"] = self._scopes_field()
        if "expires_at" in self.fields:  # a project's subclass may have made it read-only
            self.fields["expires_at"].help_text = _(
                "From this moment on the key is refused, without a job that would have to run."
                " Time zone: %(zone)s. Empty: it never expires."
            ) % {"zone": moments.zone_name()}

    def _scopes_field(self) -> forms.Field:
        held = self.instance.scopes
        options: dict[str, Any] = {
            "required": False,
            "initial": held,
            "label": capfirst(str(APIKey._meta.get_field("scopes").verbose_name)),
            "help_text": _(
                "A scope is one thing that the key may do: resource:action. Give a service only what it calls."
                " Without scopes the key opens only the views that ask for none."
            ),
        }
        if conf.SCOPES:
            return ScopesField(registered=conf.SCOPES, held=held, **options)
        lines = _("One per line: resource:action, resource:* or *.")
        return LinesField(**{**options, "help_text": format_html("{} {}", options["help_text"], lines)})


def _lifetimes() -> list[tuple[str, Any]]:
    # Built for each form, in the current language.
    days = [(str(days), moments.length_in_words(timedelta(days=days))) for days in (30, 90, 180)]
    return [("", _("No end, unless one is given below")), *days]


class AddKeyForm(KeyForm):
    """Creates a key."""

    # Identifies this rendering of the form: `APIKeyAdmin.add_view` creates only one key for it.
    form_id = forms.UUIDField(
        required=False, initial=uuid.uuid4, widget=forms.HiddenInput(attrs={"autocomplete": "off"})
    )
    lifetime = forms.ChoiceField(
        choices=_lifetimes,
        required=False,
        widget=forms.RadioSelect,
        label=_("Lifetime"),
        help_text=_(
            "A key that ends by itself cannot be forgotten. Rotate it before, and its service will not notice."
        ),
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        expires_at: datetime | None = cleaned.get("expires_at")
        if expires_at is not None and moments.has_passed(expires_at):
            self.add_error("expires_at", _("This moment has passed: the key would never be accepted."))
        if days := cleaned.get("lifetime"):
            if expires_at is not None:
                self.add_error("expires_at", _("Choose a number of days above or give a moment here, not both."))
            cleaned["expires_at"] = moments.after(timezone.now(), timedelta(days=int(days)))
            # A project's own fieldsets may offer the number of days alone.
            self.instance.expires_at = cleaned["expires_at"]
        return cleaned


class SnapshotField(forms.CharField):
    """The values from which the page was made. It never counts as a change."""

    widget = forms.HiddenInput(attrs={"autocomplete": "off"})

    def has_changed(self, initial: Any, data: Any) -> bool:
        return False


class ChangeKeyForm(KeyForm):
    """Saves only the fields that the person changed since the page was opened.

    The page contains the values it was made from. So it does not undo what others did meanwhile, such as a
    deactivation or a narrowing of scopes: a field that both changed is an error.
    """

    opened_with = SnapshotField(required=False)

    class Meta(KeyForm.Meta):
        fields = ("name", "is_active", *FIELDS[1:])

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        salt = f"{__name__}.{self.instance.pk}"
        self.is_readable = True
        # Without it (every browser sends it), changes are compared with the current row.
        if self.is_bound and (text := self.data.get(self.add_prefix("opened_with"))):
            try:
                self.initial.update(self._values(signing.loads(text, salt=salt)))
            except (signing.BadSignature, KeyError):
                self.is_readable = False
        else:
            self.initial["opened_with"] = signing.dumps(self._texts(), salt=salt, compress=True)

    def _model_fields(self) -> list[Any]:
        """Return the key's fields that can be changed on this page; others are read-only or are no fields of a key."""
        return [field for field in APIKey._meta.concrete_fields if field.name in self._shown]

    @property
    def _shown(self) -> set[str]:
        return {*self.fields} & {*(self._meta.fields or ())} & {field.name for field in APIKey._meta.concrete_fields}

    def _texts(self) -> dict[str, Any]:
        key = self.instance
        return {
            field.name: None if getattr(key, field.name) is None else field.value_to_string(key)
            for field in self._model_fields()
        }

    def _values(self, texts: dict[str, Any]) -> dict[str, Any]:
        return {field.name: field.to_python(texts[field.name]) for field in self._model_fields()}

    @property
    def unchanged(self) -> set[str]:
        """The key's fields that the person did not change."""
        return self._shown - {*self.changed_data}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not self.is_readable:
            raise forms.ValidationError(_("This page cannot be read any more. Open it again."), code="stale")
        # The form does not write fields that are missing in `cleaned_data`.
        cleaned = {name: value for name, value in cleaned.items() if name not in self.unchanged}
        for name in self._shown & {*cleaned}:
            now = getattr(self.instance, name)
            if now not in (self.initial[name], cleaned[name]):
                self.add_error(name, self._conflict(now))
        return {name: value for name, value in cleaned.items() if name in self.cleaned_data}

    def _conflict(self, now: Any) -> forms.ValidationError:
        value = ", ".join(now) if isinstance(now, list) else moments.exactly(now) if isinstance(now, datetime) else now
        message = _(
            "Somebody else has changed this since you opened the page; now it is: %(value)s."
            " Nothing was saved. Open the page again."
        )
        return forms.ValidationError(message, code="stale", params={"value": value if value not in ("", None) else "-"})

    def _get_validation_exclusions(self) -> set[str]:
        # So a key with a scope that is no longer registered can be renamed.
        return {*super()._get_validation_exclusions(), *self.unchanged}  # type: ignore[misc]


class ListedKeyForm(OwnerForm, forms.ModelForm):  # type: ignore[type-arg]
    """A row of the list, where a project's subclass has `list_editable`. Saves only what the person changed in it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.editable = {*self.fields}
        for name, field in self.fields.items():
            # The page contains the values it was made from. Without them, changes are compared with the current row.
            field.show_hidden_initial = not self.is_bound or self.add_initial_prefix(name) in self.data

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        unchanged = self.editable - {*self.changed_data}
        return {name: value for name, value in cleaned.items() if name not in unchanged}
