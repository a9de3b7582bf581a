"""The forms of the pages that ask before keys are rotated or deactivated."""

from datetime import timedelta
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from .. import moments
from ..conf import conf

# In the log it stands in `detail`, behind what a rotation says there of the successor.
LONGEST_REASON = 180


class ReasonForm(forms.Form):
    """Why it is done."""

    reason = forms.CharField(
        required=False, max_length=LONGEST_REASON, label=_("Reason"),
        widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off"}),
        help_text=_("For those who read the log later, such as a ticket. Never a key."),
    )  # fmt: skip


class RotateForm(ReasonForm):
    """How long the old key is still accepted, and why there is a new one."""

    grace = forms.TypedChoiceField(
        coerce=lambda seconds: timedelta(seconds=int(seconds)),
        widget=forms.RadioSelect,
        label=_("Grace"),
        help_text=_(
            "How long the old key is still accepted beside the new one: the time you have to hand the new key to"
            " every instance of the service. The old key's own expiry, if it is sooner, still holds."
        ),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        usual = conf.ROTATION_GRACE
        offered = sorted({usual, *(timedelta(hours=hours) for hours in (0, 1, 24, 7 * 24, 30 * 24))})
        grace: Any = self.fields["grace"]
        none = _("None: the old key is refused at once")
        grace.choices = [
            (str(int(one.total_seconds())), moments.length_in_words(one) if one else none) for one in offered
        ]
        grace.initial = str(int(usual.total_seconds()))
