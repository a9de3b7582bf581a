"""Lengths of time as written on a command line: `90d`, `12h`, `0`. Pure functions, no Django."""

import re
from datetime import timedelta

LONGEST = timedelta(days=36500)

_SECONDS = {"s": 1, "m": 60, "h": 60 * 60, "d": 24 * 60 * 60, "w": 7 * 24 * 60 * 60}
_DURATION = re.compile(r"(0)|([0-9]{1,12})([smhdw])")


def parse(text: str) -> timedelta:
    """Return the length of time: a whole number of seconds, minutes, hours, days or weeks, such as `12h`; or `0`.

    Raises ValueError, with a sentence, for anything else and for more than a hundred years.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"“{text}” is not a length of time: write a number and s, m, h, d or w, such as 12h or 90d.")
    seconds = 0 if match[1] else int(match[2]) * _SECONDS[match[3]]
    if seconds > LONGEST.total_seconds():
        raise ValueError(f"“{text}” is longer than a hundred years.")
    return timedelta(seconds=seconds)


def rough(seconds: float) -> str:
    """Return a length of time in its largest unit, rounded down, such as `12h`."""
    unit = max((unit for unit in _SECONDS if seconds >= _SECONDS[unit]), key=_SECONDS.__getitem__, default="s")
    return f"{int(seconds / _SECONDS[unit])}{unit}"
