"""Lengths of time as people write them."""

from datetime import timedelta

import pytest

from keys import durations


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", timedelta(0)),
        ("0d", timedelta(0)),
        ("45s", timedelta(seconds=45)),
        ("30m", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        ("90d", timedelta(days=90)),
        (" 2w ", timedelta(weeks=2)),
        ("36500d", timedelta(days=36500)),
    ],
)
def test_a_number_and_a_unit_is_a_duration(text: str, expected: timedelta) -> None:
    assert durations.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "90", "d", "-1d", "1.5d", "1 d", "1d2h", "3y", "3M", "٣d", "1d\n1d", "9" * 13 + "d"]
)
def test_anything_else_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="is not a length of time"):
        durations.parse(text)


@pytest.mark.parametrize("text", ["36501d", "999999999999w", "999999999999s"])
def test_more_than_a_hundred_years_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="longer than a hundred years"):
        durations.parse(text)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0s"),
        (0.9, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (3599, "59m"),
        (86_399, "23h"),
        (86_400, "1d"),
        (1_209_599, "1w"),
    ],
)
def test_a_length_of_time_is_told_in_its_largest_unit(seconds: float, expected: str) -> None:
    assert durations.rough(seconds) == expected
