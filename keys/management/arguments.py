"""Parses arguments of the command line. Each function raises CommandError, with a sentence."""

import re
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import CommandError
from django.db import router
from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from .. import durations, moments, tokens
from ..models import APIKey
from ..redaction import printable

NOT_THE_KEY_ITSELF = (
    "That looks like a key itself, and an argument stays in the shell's history: name the key by its id, prefix"
    " or name. To ask about a key, give it to keys_explain on standard input."
)

LONGEST_REASON = 150  # characters, in an event that has room for what else is to be said
_TOKEN = re.compile(r"[0-9a-fA-F]{40}")


def find_key(text: str) -> APIKey:
    """Return the one key with that id, prefix or name. Raises CommandError if there is none, or several."""
    refuse_secret(text)
    text = text.removesuffix("…")  # with which lists show how a key begins
    keys = APIKey.objects.using(router.db_for_write(APIKey))
    number = int(text) if is_id(text) else None
    named = keys.filter(Q(name=text) | Q(prefix=text, prefix__gt="") | Q(pk=number))
    # MariaDB commonly ignores the case of letters.
    candidates = [key for key in named.order_by("pk") if text in {key.name, key.prefix} or key.pk == number]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        listed = ", ".join(f"{key.pk} ({printable(str(key))}, {key.state})" for key in candidates)
        raise CommandError(f"That names {len(candidates)} keys; use the id or prefix of one of them: {listed}.")
    refuse_key(text)
    # The text is not shown, as it may be most of a secret.
    raise CommandError("No key has that id, prefix or name; keys_list shows them all.")


def refuse_secret(text: str) -> None:
    """Raise CommandError for a text with the form of a key, without showing it."""
    if tokens.is_standard(text.strip()[-tokens.LENGTH :]):
        raise CommandError(NOT_THE_KEY_ITSELF)


def refuse_key(text: str) -> None:
    """Raise CommandError for a text that is a key of any form, or holds one, without showing it."""
    if APIKey.objects.using(router.db_for_write(APIKey)).pasted_in(text) is not None:
        raise CommandError(NOT_THE_KEY_ITSELF)


def words(text: str, option: str) -> str:
    """Return a text for people that is kept, such as a note, stripped. Raises CommandError if it holds a key."""
    keys: Any = APIKey.objects.using(router.db_for_write(APIKey))
    if _TOKEN.search(text) or keys.pasted_in(text) is not None:
        raise CommandError(f"{option} holds what looks like a key itself, and it is kept: leave that out.")
    return text.strip()


def reason(text: str) -> str:
    """Return why something is done to a key, for its event. Raises CommandError as `words`, and for a long text."""
    if len(said := words(text, "--reason")) > LONGEST_REASON:
        raise CommandError(f"--reason has at most {LONGEST_REASON} characters.")
    return said


def is_id(text: str) -> bool:
    """Tell whether the text can be the id of a row."""
    return text.isascii() and text.isdigit() and len(text) < 19


def duration(text: str) -> timedelta:
    """Return the length of time, such as `90d`. Raises CommandError."""
    try:
        return durations.parse(text)
    except ValueError as error:
        raise CommandError(str(error)) from None


def moment(text: str) -> datetime:
    """Return the moment: a length of time from now (`90d`), a date (its midnight), or a date and time.

    Without a time zone it is in the project's `TIME_ZONE`. Raises CommandError.
    """
    with suppress(ValueError):
        return moments.after(timezone.now(), durations.parse(text))
    with suppress(ValueError):
        if (at := parse_datetime(text)) is not None:
            return moments.kept(at)
    raise CommandError(f"“{text}” is neither a length of time, such as 12h or 90d, nor a date, such as 2030-01-31.")
