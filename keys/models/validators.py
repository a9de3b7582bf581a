"""Validators of a key's fields. Each raises ValidationError with a sentence."""

import re
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from .. import networks, scopes
from ..conf import conf
from ..redaction import has_control_characters, printable
from .changes import MOST

LONGEST_NAME = 100  # characters
MALFORMED = "malformed"  # not "invalid", for which JSONField would show its own text

_LINES = str.maketrans("", "", "\n\r\t")
_RATE = re.compile(r"[1-9][0-9]{0,8}/(s|sec|second|m|min|minute|h|hour|d|day)\Z")


def validate_name(value: str) -> None:
    """Accept a name without control characters: the log would show it in another form."""
    if has_control_characters(value):
        raise ValidationError(_("A name holds no control characters, such as a line break."), code=MALFORMED)


def acceptable_name(name: str) -> str:
    """Return the name of another system's key as a key here may have it: without control characters, and cut."""
    name = name.strip()
    return (printable(name) if has_control_characters(name) else name)[:LONGEST_NAME].strip()


def validate_note(value: str) -> None:
    """Accept a note of some lines, without control characters, which an event tells as a whole."""
    if has_control_characters(value.translate(_LINES)):
        message = _("A note holds no control characters but line breaks and tabs.")
        raise ValidationError(message, code=MALFORMED)
    if len(value) > MOST:
        message = _("A note has at most %(most)d characters.")
        raise ValidationError(message, code="max_length", params={"most": MOST})


def _strings(value: Any) -> Sequence[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ValidationError(_("Give a list of strings."), code=MALFORMED)
    return value


def validate_scopes(value: Any) -> None:
    """Accept a list of well-formed scopes that are registered in `KEYS["SCOPES"]`, if that is set."""
    for scope in _strings(value):
        if not scopes.is_well_formed(scope):
            message = _("“%(scope)s” is not a scope: write resource:action, resource:* or *.")
            raise ValidationError(message, code=MALFORMED, params={"scope": scope})
    if unknown := scopes.unknown(value, conf.SCOPES):
        message = _('“%(scope)s” is not registered in KEYS["SCOPES"]. Registered: %(known)s.')
        raise ValidationError(message, code="unknown", params={"scope": unknown[0], "known": ", ".join(conf.SCOPES)})


def validate_networks(value: Any) -> None:
    """Accept a list of IPv4 and IPv6 networks that somebody's address can be in."""
    for text in _strings(value):
        try:
            network = networks.parse_network(text)
        except networks.HostBitsError as error:
            message = _("“%(network)s” has bits set to the right of its mask; did you mean %(meant)s?")
            params = {"network": text, "meant": error.meant}
            raise ValidationError(message, code=MALFORMED, params=params) from None
        except ValueError:
            message = _("“%(network)s” is not an IPv4 or IPv6 network, such as 10.0.0.0/8 or 2001:db8::/32.")
            raise ValidationError(message, code=MALFORMED, params={"network": text}) from None
        if networks.is_nobodys(network):
            message = _("“%(network)s” is nobody's address; did you mean %(meant)s?")
            params = {"network": text, "meant": f"{network.network_address}/0"}
            raise ValidationError(message, code=MALFORMED, params=params)


def validate_rate(value: str) -> None:
    """Accept a rate such as `100/min`: a number above zero, and a period as DRF's throttles read it."""
    if value and not _RATE.match(value):
        message = _("“%(rate)s” is not a rate: write a number and a period, such as 100/min.")
        raise ValidationError(message, code=MALFORMED, params={"rate": value})
