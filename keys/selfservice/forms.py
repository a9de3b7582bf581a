"""What people type in to make, change, rotate and deactivate a key. Whether they may, `rules` decides."""

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import moments
from ..conf import conf, offered_scopes, self_service, sentence_of
from ..models import APIKey
from . import rules

USUAL_LIFE = timedelta(days=90)
LIVES = (timedelta(days=7), timedelta(days=30), USUAL_LIFE, timedelta(days=180), timedelta(days=365))
CUSTOM, ENDLESS = "custom", "endless"
GRACES = (timedelta(0), timedelta(hours=1), timedelta(days=1), timedelta(days=7), timedelta(days=30))
LAST_ID = 2**63 - 1


class RuledForm(forms.Form):
    """A form whose values the rules look at after it. What they refuse stands at its field."""

    FIELD_OF = {"expires_at": "life"}

    def refuse(self, error: ValidationError) -> None:
        """Show what the rules said, at its field where the form has that one."""
        if not hasattr(error, "error_dict"):
            self.add_error(None, error)
            return
        for named, errors in error.error_dict.items():
            field = self.FIELD_OF.get(named, named)
            self.add_error(field if field in self.fields else None, errors)


class KeyForm(RuledForm):
    """What may be said of a key at any time."""

    name = forms.CharField(
        label=gettext_lazy("Name"), max_length=APIKey._meta.get_field("name").max_length,
        help_text=gettext_lazy(
            "What will use the key, as you want to read it here later: “Nightly backup”, “Build server”."
        ),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )  # fmt: skip
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("What it may do"), required=False, widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("Give a key only what its program calls: whoever finds the key can do that too."),
    )  # fmt: skip
    allowed_ips = forms.CharField(
        label=gettext_lazy("Allowed networks"), required=False,
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "autocapitalize": "off"}),
        help_text=gettext_lazy(
            "One IPv4 or IPv6 address or network per line, such as 203.0.113.7 or 2001:db8::/32."
            " From anywhere else the key is refused. Empty: it may be used from anywhere."
        ),
    )  # fmt: skip

    def offer_scopes(self, offered: Iterable[str]) -> None:
        """Make a check box of each scope, with its sentence; none at all if there is nothing to tick."""
        field: Any = self.fields["scopes"]
        field.choices = [
            (scope, format_html('<span>{} <code class="keys-scope">{}</code></span>', sentence_of(scope), scope))
            for scope in offered
        ]
        if not field.choices:
            del self.fields["scopes"]

    def clean_allowed_ips(self) -> list[str]:
        return _lines(self.cleaned_data["allowed_ips"])


class CreateForm(KeyForm):
    """Makes a key. `owners` are those of the user, by reference: how each is named in the list."""

    life = forms.ChoiceField(
        label=gettext_lazy("It ends"), widget=forms.RadioSelect,
        help_text=gettext_lazy(
            "A key that ends by itself cannot be forgotten. Rotate it before, and its program will not notice."
        ),
    )  # fmt: skip
    # As browsers send it, whatever formats the site has for people.
    last_day = forms.DateField(
        label=gettext_lazy("Its last day"), required=False, input_formats=["%Y-%m-%d"],
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
    )  # fmt: skip
    # The latest of the user's keys when the form was made, so that it makes one key however often it is sent.
    after = forms.IntegerField(required=False, min_value=0, max_value=LAST_ID, widget=forms.HiddenInput)

    def __init__(self, *args: Any, owners: Mapping[str, str], chosen: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.owners = owners
        if len(owners) > 1:
            choices = [("", _("Choose…")), *owners.items()]
            owner = forms.ChoiceField(
                label=_("Whose key it is"), choices=choices, initial=chosen,
                help_text=_("It acts for this one, and ends with it."),
            )  # fmt: skip
            self.fields = {"name": self.fields.pop("name"), "owner": owner, **self.fields}
        self.fields["scopes"].initial = rules.usual_scopes()
        self.offer_scopes(offered_scopes())
        self._offer_lives(self_service()["LONGEST_LIFE"])
        self.fields["after"].widget.attrs["autocomplete"] = "off"

    def _offer_lives(self, longest: timedelta | None) -> None:
        spans = [span for span in LIVES if longest is None or span <= longest]
        if longest is not None and longest not in spans:
            spans.append(longest)
        choices = [(_seconds(span), _until(span)) for span in spans]
        choices.append((CUSTOM, _custom()))
        if longest is None:
            choices.append((ENDLESS, _("Never: it goes on until somebody deactivates it")))
        life: Any = self.fields["life"]
        life.choices, life.initial = choices, _seconds(USUAL_LIFE if USUAL_LIFE in spans else spans[-1])
        today, end = moments.today(), rules.latest_end()
        self.fields["last_day"].widget.attrs["min"] = f"{today:%Y-%m-%d}"
        if end is not None:
            self.fields["last_day"].widget.attrs["max"] = f"{moments.local(end):%Y-%m-%d}"

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        day, life = cleaned.get("last_day"), cleaned.get("life")
        if life == CUSTOM and day is None and "last_day" not in self.errors:
            self.add_error("last_day", _("Say which day is its last."))
        if life not in (None, CUSTOM) and day is not None:
            self.add_error("last_day", _("Choose “%(choice)s” above, or give no day.") % {"choice": _custom()})
        try:
            cleaned["ends"] = _end_of(day) if day is not None else None
        except OverflowError:
            self.add_error("last_day", _("No key can end on that day."))
        return cleaned

    @property
    def chosen_owner(self) -> str:
        """The reference of the owner that was chosen, or of the user's only one; empty if there is none."""
        chosen: str = self.cleaned_data.get("owner", next(iter(self.owners), ""))
        return chosen

    @property
    def expires_at(self) -> datetime | None:
        """When the key is to end; None for the latest moment that the rules allow, or for never where they do."""
        life = self.cleaned_data["life"]
        if life == CUSTOM:
            ends: datetime = self.cleaned_data["ends"]
            return ends
        if life == ENDLESS or (span := timedelta(seconds=int(life))) == self_service()["LONGEST_LIFE"]:
            return None
        return moments.after(timezone.now(), span)


class ChangeForm(KeyForm):
    """Changes a key. What the person did not change is left alone: others may have changed it meanwhile.

    The page holds the values it was made from. A field that both changed is an error.
    """

    def __init__(self, data: Any, *, key: APIKey) -> None:
        now = {"name": key.name, "scopes": [*key.scopes], "allowed_ips": "\n".join(key.allowed_ips)}
        super().__init__(data, initial=now)
        self.offer_scopes(dict.fromkeys([*offered_scopes(), *key.scopes]))
        # Without them, as a program sends it, changes are compared with the current row.
        is_opened = data is None or self.add_initial_prefix("name") in data
        for field in self.fields.values():
            field.show_hidden_initial = is_opened

    @property
    def changes(self) -> dict[str, Any]:
        """The values that the person changed."""
        return {name: self.cleaned_data[name] for name in self.changed_data}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        for name in {*self.changed_data} & {*cleaned}:
            bound = self[name]
            if not bound.field.show_hidden_initial:
                continue
            opened = bound.field.widget.value_from_datadict(self.data, self.files, bound.html_initial_name)
            if _comparable(opened) != _comparable(self.initial[name]):
                self.add_error(name, _("Somebody else has changed this since you opened the page. Open it again."))
        return cleaned


class RotateForm(RuledForm):
    """How long the old key is still accepted."""

    grace = forms.TypedChoiceField(
        label=gettext_lazy("How long the old key goes on"),
        coerce=lambda seconds: timedelta(seconds=int(seconds)), widget=forms.RadioSelect,
        help_text=gettext_lazy(
            "The time you have to put the new key into every program that uses the old one. If the old key ends sooner"
            " anyway, that still holds."
        ),
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        usual, longest = conf.ROTATION_GRACE, self_service()["LONGEST_LIFE"]
        offered = sorted(span for span in {usual, *GRACES} if longest is None or span <= longest)
        grace: Any = self.fields["grace"]
        grace.choices = [(_seconds(span), _grace(span)) for span in offered]
        grace.initial = _seconds(usual if usual in offered else offered[-1])


class DeactivateForm(RuledForm):
    """Why a key is ended, if somebody wants to say so."""

    reason = forms.CharField(
        label=gettext_lazy("Why (optional)"), required=False, max_length=rules.MOST_OF_A_REASON,
        help_text=gettext_lazy("It stands in the log, for whoever asks later. Never write a key here."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )  # fmt: skip


def _lines(text: str) -> list[str]:
    return [line for part in text.splitlines() if (line := part.strip())]


def _comparable(value: Any) -> Any:
    return {*value} if isinstance(value, list) else _lines(value or "")


def _end_of(day: date) -> datetime:
    """Return the end of that day, or the latest moment that the rules allow if that is within it."""
    begin, end, latest = moments.start_of(day), moments.start_of(day + timedelta(days=1)), rules.latest_end()
    if latest is not None and moments.instant(begin) < moments.instant(latest) < moments.instant(end):
        return latest
    return end


def _seconds(span: timedelta) -> str:
    return str(int(span.total_seconds()))


def _until(span: timedelta) -> str:
    day = moments.day_in_words(moments.after(timezone.now(), span))
    return _("In %(span)s, on %(day)s") % {"span": moments.length_in_words(span), "day": day}


def _custom() -> str:
    return _("On a day of your choice")


def _grace(span: timedelta) -> str:
    return moments.length_in_words(span) if span else _("Not at all: it is refused at once")
