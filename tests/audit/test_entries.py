"""What is read of a stream: a use or a refusal as a web server writes it, and nothing else."""

import json
from datetime import timedelta
from typing import Any

import pytest

from keys.audit.entries import EntryError, decode, encode, merged
from keys.audit.outcomes import new_ticket
from keys.models.audit_event import MANY_NETWORKS
from tests.support.log import AT, row, ticketed

AT_AS_TEXT = AT.isoformat()
TICKET = new_ticket(AT)


def holding(**changes: Any) -> dict[str, Any]:
    """The fields of an entry that holds a row with these columns."""
    return {"row": json.dumps({"at": AT_AS_TEXT, "ticket": TICKET, "event": "used", **changes})}


def stranger(**changes: Any) -> dict[str, Any]:
    return holding(**{"event": "refused", "reason": "unknown", "status": 401, **changes})


def read(fields: dict[str, Any]) -> dict[str, Any]:
    """Read an entry as Redis gives it."""
    return decode({name.encode(): text if isinstance(text, bytes) else text.encode() for name, text in fields.items()})


@pytest.mark.parametrize(
    "fields",
    [holding(), stranger(), stranger(count=7), stranger(count=7, detail=MANY_NETWORKS),
     holding(status=499, duration_ms=0), holding(api_key_id=2**63 - 1),
     holding(address="2001:db8::7", path="é" * 255), holding(event="refused", reason="rate", status=429, key_name="A")],
)  # fmt: skip
def test_what_requests_make_is_read(fields: dict[str, Any]) -> None:
    assert read(fields).items() >= {**json.loads(fields["row"]), "at": AT}.items()


@pytest.mark.parametrize(
    "fields",
    [holding(detail=MANY_NETWORKS), stranger(detail=MANY_NETWORKS, key_name="A"),
     stranger(detail=MANY_NETWORKS, api_key_id=1), stranger(detail=MANY_NETWORKS, address="192.0.2.1"),
     stranger(detail=MANY_NETWORKS, path="/")],
)  # fmt: skip
def test_what_counts_many_networks_has_nothing_of_one_request(fields: dict[str, Any]) -> None:
    with pytest.raises(EntryError):
        read(fields)


@pytest.mark.parametrize(
    "changes",
    [{}, {"address": None, "status": 100, "duration_ms": 0},
     {"event": "refused", "reason": "unknown", "status": 401, "key_name": "", "owner": "", "count": 7,
      "path": "😀\\u0000"}],
)  # fmt: skip
def test_what_was_written_is_read(changes: dict[str, Any]) -> None:
    values = ticketed(**changes)
    assert read({"row": encode(values)}) == values


IMPOSSIBLE: dict[str, list[Any]] = {
    "at": [
        1,
        None,
        "",
        "yesterday",
        AT_AS_TEXT[:19],
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "9999-12-31T23:59:59+00:00",
        "1969-12-31T23:59:59+00:00",
        (AT + timedelta(hours=1)).isoformat(),
    ],
    "ticket": ["1", 1.5, 2**63, -1, None, True],
    "event": [["used"], None, "created", "pruned", "changed", "", "USED", "refused"],
    "reason": ["unknown", "scope", "nonsense", None],
    "status": ["many", 10**6, 600, 99, 0, -1, True, 200.0],
    "duration_ms": [0, -1, 2**31, "1"],  # without a status not even one that is possible
    "count": [0, -1, 2, 2**31, True, None, "1"],
    "api_key_id": [2**63, "1", True, 1.0],
    "address": [5, "", "nowhere", "fe80::1%eth0", "0:0::1", "192.0.2.1/24", "::ffff:192.0.2.1", [5]],
    "path": ["\x00", "\ud800", "x" * 256, "\x1b", "\u200b", None, 5, ["/"], {"a": "/"}],
    "user_agent": ["x" * 256, "\n"],
    "key_name": ["x" * 101],
    "key_prefix": ["x" * 21],
    "actor": ["user: boss"],
    "detail": ["scopes"],
    "changes": [{"scopes": [[], ["*"]]}, None],
    "id": [1],
    "unknown": [1],
}

POISON: dict[str, Any] = {
    "no row": {"other": "x"},
    "more than a row": {**holding(), "other": "x"},
    "many fields": {f"field {n}": "x" for n in range(9000)},
    "nothing": {"row": ""},
    "no text": {"row": b"\xff"},
    "no object": {"row": "[]"},
    "utf-16": {"row": holding()["row"].encode("utf-16")},
    "nested deeply": {"row": "[" * 10_000},
    "long": holding(path="x" * 100_000),
    "a column twice": {"row": holding()["row"].replace("{", '{"event": "refused", ')},
    "nan": {"row": holding(count=1)["row"].replace('"count": 1', '"count": NaN')},
    "infinite": {"row": holding(count=1)["row"].replace('"count": 1', '"count": 1e999')},
    "more digits than Python reads": {"row": holding(count=1)["row"].replace('"count": 1', f'"count": {"9" * 5000}')},
    "the ticket of another time": holding(ticket=TICKET ^ 1),
    "no ticket": {"row": encode(row())},
    **{
        f"{name}={value!r:.40}": holding(**{name: value})
        for name, values in IMPOSSIBLE.items()
        for value in values
    },
    "refused without a status": stranger(status=None),
    "a known key's refusal, counted": stranger(count=2, key_name="TTS"),
    "the same by its id": stranger(count=2, api_key_id=1),
    "a denial, counted": stranger(count=2, reason="scope"),
    "a known key's reason, counted": stranger(count=2, reason="inactive"),
    "a denial from many networks": stranger(detail=MANY_NETWORKS, reason="rate"),
    "a step of a life": holding(event="created", key_name="A", actor="user: boss", count=1),
}  # fmt: skip


@pytest.mark.parametrize("fields", POISON.values(), ids=POISON)
def test_anything_else_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(EntryError, match=r"^It[s ].*\.$"):
        read(fields)


def test_the_same_row_at_another_time_is_refused() -> None:
    use = ticketed()
    for later in (timedelta(microseconds=1), timedelta(seconds=1), timedelta(hours=1), timedelta(days=365)):
        with pytest.raises(EntryError, match="another time"):
            read({"row": encode({**use, "at": use["at"] + later})})


USE = ticketed(key_name="TTS")
ENDED = {**USE, "status": 200, "duration_ms": 3}
DENIED = {**USE, "event": "refused", "reason": "scope", "status": 403, "duration_ms": 3}
REFUSED = {**USE, "event": "refused", "reason": "unknown", "status": 401, "key_name": ""}
KNOWN = {**REFUSED, "reason": "inactive", "key_name": "TTS"}
# Two states of a row, and which of them holds; None if they are not of one row.
STATES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None]] = [
    (USE, USE, USE),
    (USE, ENDED, ENDED),
    (USE, DENIED, DENIED),
    (ENDED, ENDED, ENDED),
    (DENIED, DENIED, DENIED),
    (REFUSED, {**REFUSED, "count": 9}, {**REFUSED, "count": 9}),
    ({**REFUSED, "count": 7}, {**REFUSED, "count": 9}, {**REFUSED, "count": 9}),
    (ENDED, {**ENDED, "status": 500}, None),
    (ENDED, {**ENDED, "duration_ms": 4}, None),
    (ENDED, DENIED, None),
    (DENIED, {**DENIED, "reason": "rate"}, None),
    (REFUSED, {**REFUSED, "count": 9, "status": 403}, None),
    (REFUSED, {**REFUSED, "count": 9, "reason": "malformed"}, None),
    (REFUSED, USE, None),
    (KNOWN, USE, None),
    (ENDED, {**ENDED, "event": "refused", "reason": "unknown", "key_name": "", "count": 99}, None),
    *(
        (early, {**late, name: value}, None)
        for early, late in ((USE, ENDED), (USE, USE), (ENDED, USE), (REFUSED, {**REFUSED, "count": 9}))
        for name, value in {
            "api_key_id": 5, "key_name": "Other", "key_prefix": "76543210", "method": "PUT", "path": "/",
            "endpoint": "x", "address": None, "user_agent": "", "request_id": "r-2",
        }.items()
    ),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other", "holds"), STATES)
def test_a_row_changes_by_its_outcome_and_its_count_alone(
    one: dict[str, Any], other: dict[str, Any], holds: dict[str, Any] | None
) -> None:
    for pair in ((one, other), (other, one)):
        if holds is not None:
            assert merged(*pair) == holds
        else:
            with pytest.raises(EntryError, match="differs from its row"):
                merged(*pair)
