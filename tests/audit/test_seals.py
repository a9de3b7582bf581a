"""What a seal is made of, the same on every database and in every version of Python."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from keys.audit.seal_formats import FORMATS
from keys.audit.sealing import (
    DIGEST_SIZE,
    Entry,
    SealingKey,
    entry,
    made_of,
    microseconds,
    pack,
    unpack,
    without_outcome,
)
from keys.models import AuditSeal
from tests.support.sealed_logs import FULL, KEY, OPEN, OTHER_KEY, REFUSED, STEP

FORMAT = FORMATS[1]
AT = datetime(2024, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)
BLANK = {
    "reason": "",
    "api_key_id": None,
    "status": None,
    "duration_ms": None,
    "address": None,
    "count": 1,
    "changes": None,
    "ticket": None,
}


def row(**values: Any) -> list[Any]:
    known = {**dict.fromkeys(FORMAT.columns, ""), **BLANK, "id": 42, "at": microseconds(AT), **values}
    return [known[column] for column in FORMAT.columns]


def encoded(values: list[Any]) -> bytes:
    return FORMAT.encoded(values)


def test_values_do_not_run_into_each_other() -> None:
    assert encoded(row(key_name="a", key_prefix="b")) != encoded(row(key_name="ab", key_prefix=""))
    assert encoded(row(key_name='a","b')) != encoded(row(key_name="a", key_prefix="b"))


def test_digest_and_signature_depend_on_the_key_and_are_what_they_were() -> None:
    key, other = SealingKey(KEY), SealingKey(OTHER_KEY)
    assert key.digest(row(**FULL), FORMAT) != other.digest(row(**FULL), FORMAT)
    assert key.sign("a") != other.sign("a")
    assert key.id != other.id
    # The format of seals that were made: a change here makes each of them a false alarm.
    assert (key.id, key.digest(row(**SEALED), FORMAT).hex(), key.sign("a")) == GOLDEN


SEALED = {**FULL, "address": "20010db8000000000000000000000007", "changes": '{"scopes": [[], ["a"]]}'}
GOLDEN = (
    "37fb39ff",
    "d9b7eeac2eba52c3e5753b5798bcc028",
    "e2d21f49543ce55b81eda0a625c0b4327f0b58793d33f4ea0ee927e1b391f697",
)


def test_a_row_without_its_outcome_is_as_it_was_before() -> None:
    open_row = row(**OPEN)
    for outcome in ({"status": 200}, {"status": 403, "event": "refused", "reason": "scope", "duration_ms": 3}):
        assert without_outcome(row(**{**OPEN, **outcome}), FORMAT) == open_row
    assert without_outcome(row(**{**OPEN, "status": 200, "path": "/other"}), FORMAT) != open_row
    for other in (row(**STEP), open_row, row(**{**STEP, "status": 200})):
        assert without_outcome(other, FORMAT) == other
    assert without_outcome(row(**REFUSED), FORMAT) != row(**REFUSED)


ENTRIES = st.lists(
    st.builds(
        Entry,
        st.integers(0, 2**63 - 1),
        st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999),
        st.booleans(),
        st.binary(min_size=DIGEST_SIZE, max_size=DIGEST_SIZE),
    ),
    max_size=30,
).map(sorted)


@given(ENTRIES)
def test_what_is_packed_can_be_unpacked(entries: list[Entry]) -> None:
    assert unpack(pack(entries), len(entries)) == entries


def test_a_row_costs_about_twenty_bytes() -> None:
    key = SealingKey(KEY)
    entries = [
        entry(row(id=number, at=microseconds(AT) + number**2 % 9973 * 1000), key, FORMAT) for number in range(1000)
    ]
    assert len(pack(entries)) < 22 * 1000


def test_a_seal_says_all_that_its_digest_covers() -> None:
    key = SealingKey(KEY)
    seal = made_of([entry(row(), key, FORMAT), entry(row(id=43), key, FORMAT)], None, key, AT, FORMAT)
    assert str(seal) == "seal 1 of 2024-06-01 12:00:00 UTC"
    assert (seal.first_id, seal.last_id, seal.count, seal.previous) == (42, 43, 2, "")
    assert made_of([entry(row(id=44), key, FORMAT)], seal, key, AT, FORMAT).previous == seal.digest
    said = seal.described()
    columns = {field.name for field in AuditSeal._meta.concrete_fields}
    assert said.keys() == columns
    for name in columns - {"digest", "signature"}:
        changed = AuditSeal(**{field: getattr(seal, field) for field in columns})
        value = getattr(seal, name)
        setattr(changed, name, value + timedelta(microseconds=1) if isinstance(value, datetime) else value * 2 or "x")
        assert changed.computed_digest() != seal.digest, name
