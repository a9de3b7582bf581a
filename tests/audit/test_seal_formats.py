"""What is sealed is what is stored: every column, in every spelling that a database takes in it."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core import serializers
from django.db import Error, connection, transaction

from keys.audit import seal_formats, sealing, statements
from keys.audit.seal_formats import FORMATS, Reader
from keys.models import AuditEvent
from tests.support.log import row
from tests.support.sealed_logs import FULL, STEP, problems, write
from tests.support.tables import execute

pytestmark = [pytest.mark.matrix, pytest.mark.django_db, pytest.mark.usefixtures("seal_key")]

AT = datetime(2024, 6, 1, 12, 0, 0, 123450, tzinfo=UTC)
CHANGES = {"rate": ["", "5/min"], "note": ["é", None], "name": ["A", "B"]}
# A row with a value in every column; letters in both cases, and one that Unicode can write in two ways.
ROW = {
    **FULL, "at": AT, "key_name": "Täst", "key_prefix": "0123abcd", "endpoint": "É", "request_id": "rÄ-1",
    "user_agent": "ä", "actor": "Ö", "detail": "Üb", "owner": "á", "reason": "", "status": 200, "duration_ms": 1000,
    "ticket": 7, "changes": CHANGES,
}  # fmt: skip

TEXTS = [column for column, kind in seal_formats.newest().columns.items() if kind is seal_formats.TEXT]
NUMBERS = ["api_key_id", "status", "duration_ms", "count", "ticket"]
BYTES = {
    "sqlite": "CAST(@ AS BLOB)", "postgresql": "CAST(convert_to(@::text, 'UTF8') AS text)",
    "mysql": "CAST(CONVERT(@ USING utf8mb4) AS BINARY)",
}[connection.vendor]  # fmt: skip

# SQL of another spelling; @ is the column. What a database does not take is left out.
OF_TEXT = (
    "NULL", "UPPER(@)", "LOWER(@)", "CONCAT(@, ' ')", "CONCAT(' ', @)", "CONCAT(@, '\n')", "CONCAT(@, CHAR(0))",
    "@ || ' '", "@ || char(0)", "CAST(@ AS BLOB)", "CAST(@ AS BINARY)", "'A' || x'ff'", "CAST(x'41ff' AS TEXT)",
    "''", "' '", "x''", "0", "CONCAT(@, CHR(160))", "REPLACE(REPLACE(@, 'ä', 'a\u0308'), 'Ä', 'A\u0308')",
    "REPLACE(@, 'É', 'E\u0301')", "REPLACE(REPLACE(@, 'Ö', 'O\u0308'), 'Ü', 'U\u0308')", "REPLACE(@, 'e', '\u0435')",
)  # fmt: skip
OF_NUMBERS = (
    "NULL", "CAST(@ AS TEXT)", "CAST(@ AS BLOB)", "@ + 0.0", "@ + 0.25", "'+' || @", "' ' || @", "'0' || @ || 'x'",
    "@ || ''", "@ || '.0'", "@ || 'e0'", "x'323030'", "-@", "true", "1", "'1'", "'1e2'", "1e99", "9e999", "-0.0",
    "'true'", "'200 '", "'\uff1200'",
)  # fmt: skip
OF_TIMES = (
    "NULL", "'2024-06-01T12:00:00.123450'", "'2024-06-01 12:00:00.123450Z'", "'2024-06-01 12:00:00.123450+00:00'",
    "'2024-06-01 13:00:00.123450+01:00'", "'2024-06-01 12:00:00.12345'", "'2024-06-01 12:00:00,123450'",
    "'2024-06-01 12:00:00.1234500'", "'2024-06-01 12:00:00.1234504'", "'20240601 120000.123450'", "'2024-06-01 12:00'",
    "'2024-W22-6 12:00:00.123450'", "'2024-06-01 12:00:00.123450 '", "' 2024-06-01 12:00:00.123450'",
    "'2024-06-01 12:00:00.123450' || char(0)", "'2024-06-01 12:00:00'", "'2024-06-01 12:00:00.000000'", "'2024-06-01'",
    "'2024-06-01 24:00:00'", "'0000-00-00'", "'0000-00-00 00:00:00'", "'2024-00-00'", "'2024-02-31 00:00:00'",
    "'infinity'", "'-infinity'", "'12000-01-01'", "'0044-03-15 BC'", "'294276-12-31 23:59:59.999999'", "'now'", "''",
    "1717243200123450", "1717243200.12345", "1717243200", "2460463.0", "20240601120000", "CAST(@ AS BLOB)", "0",
    "CAST(x'32ff' AS TEXT)", "'\uff12024-06-01 12:00:00.123450'",
)  # fmt: skip
OF_ADDRESSES = (
    "NULL", "'20010db8000000000000000000000007'", "'2001:db8::7%eth0'", "'2001:db8::7%'", "'2001:0db8::7'",
    "'2001:db8:0:0:0:0:0:7'", "'2001:DB8::7'", "'2001:db8::0.0.0.7'", "'2001:db8::7/128'", "'2001:db8::7/64'",
    "' 2001:db8::7'", "'2001:db8::7 '", "'2001:db8::7' || char(0)", "'[2001:db8::7]'", "CAST(@ AS BLOB)", "''",
    "x'20010db8000000000000000000000007'", "7", "'42540766411282592856903984951653826567'", "CAST(x'ff' AS TEXT)",
)  # fmt: skip
OF_ADDRESSES_4 = (
    "'192.0.2.1/32'", "'192.0.2.1/24'", "'::ffff:192.0.2.1'", "'::ffff:c000:201'", "'192.0.2.01'", "'192.0.2.001'",
    "'c0000201'", "x'c0000201'", "3221225985", "'192.0.2.1 '", "'192.0.513'", "'0xc0000201'", "' 192.0.2.1'",
)  # fmt: skip
TEXT_OF_CHANGES = json.dumps(CHANGES, sort_keys=True)
JSON = (
    json.dumps(CHANGES), json.dumps(CHANGES, sort_keys=True, ensure_ascii=False), f"{TEXT_OF_CHANGES} ",
    json.dumps(CHANGES, sort_keys=True, separators=(",", ":")), f"\n{TEXT_OF_CHANGES}",
    json.dumps(CHANGES, sort_keys=True, indent=1), TEXT_OF_CHANGES.replace("{", '{"name": 1, '),
    TEXT_OF_CHANGES.replace("rate", "r\\u0061te"), TEXT_OF_CHANGES.replace("u00e9", "u00E9"),
    TEXT_OF_CHANGES.replace("5/min", "5\\/min"), TEXT_OF_CHANGES.replace("null", "0"),
    TEXT_OF_CHANGES.replace("null", "NaN"), json.dumps(TEXT_OF_CHANGES), "null", "{}", "[]", '""', "true", "{", "",
    "1", "1.0", "1.00", "1e0", "1.5", "15e-1", "-0", "-0.0", "1e400", "0.1", "0.10000000000000001",
    "[" * 3000 + "]" * 3000, "9" * 5000, "9007199254740993",
    "9007199254740993.0", '{"a": 1, "a": 2}', '{"a": 2}', '{"a": 2, "a": 2}',
    '"\\ud800"', '"\\u0000"',
)  # fmt: skip


def quoted(text: str) -> str:
    """Return text as a literal of SQL."""
    text = text.replace("\\", "\\\\") if connection.vendor == "mysql" else text
    return "'" + text.replace("'", "''") + "'"


OF_CHANGES = (*map(quoted, JSON), "NULL", "CAST(@ AS BLOB)", "x'7b7d'", "CAST(x'22ff22' AS TEXT)", "1")

CASES = [
    *((column, sql) for column in TEXTS for sql in OF_TEXT),
    *((column, sql) for column in NUMBERS for sql in OF_NUMBERS),
    *(("at", sql) for sql in OF_TIMES),
    *(("address", sql) for sql in OF_ADDRESSES),
    *(("changes", sql) for sql in OF_CHANGES),
]


def stored(column: str) -> Any:
    """Return what the first row has in the column, to the byte."""
    typed = f"typeof({column}), hex({column})" if connection.vendor == "sqlite" else BYTES.replace("@", column)
    return execute(f"SELECT {typed} FROM keys_auditevent ORDER BY id")[0]


def rewrite(column: str, sql: str) -> bool:
    """Rewrite the column of all rows; return whether the database takes that, and then holds something else."""
    before = stored(column)
    lenient = "SET STATEMENT sql_mode = '' FOR " if connection.vendor == "mysql" else ""
    statement = f"{lenient}UPDATE keys_auditevent SET {column} = {sql.replace('@', column)}"
    try:
        with transaction.atomic():
            execute(statement.replace("%", "%%"), [])
    except Error:
        return False
    return bool(stored(column) != before)


@pytest.mark.parametrize("column", [column for column in FORMATS[1].columns if column != "id"])
def test_whatever_a_column_is_rewritten_as_is_altered(column: str) -> None:
    (pk,) = write(ROW)
    list(sealing.seal())
    assert problems() == []
    taken = 0
    for _, sql in (case for case in CASES if case[0] == column):
        with transaction.atomic():
            taken += (is_other := rewrite(column, sql))
            assert problems() == ([("altered", 1, pk)] if is_other else []), sql
            transaction.set_rollback(True)
    assert taken > 1


@pytest.mark.parametrize("sql", OF_ADDRESSES_4)
def test_so_is_an_address_of_version_4(sql: str) -> None:
    (pk,) = write({**ROW, "address": "192.0.2.1"})
    list(sealing.seal())
    is_other = rewrite("address", sql)
    assert problems() == ([("altered", 1, pk)] if is_other else [])


@pytest.mark.parametrize("column", [column for column in FORMATS[1].columns if column != "id"])
def test_what_is_stored_in_two_ways_is_written_down_in_two(column: str) -> None:
    write(ROW)
    written: dict[Any, list[Any]] = {}
    for _, sql in (case for case in CASES if case[0] == column):
        with transaction.atomic():
            if rewrite(column, sql):
                written[stored(column)] = read()[0]
            transaction.set_rollback(True)
    values = [repr(values) for values in written.values()]
    assert len(set(values)) == len(values) > 1


def sealed_in(column: str, sql: str) -> bool:
    """Seal a row with that value; return False where it says that it is young, or of a future that never comes."""
    write(ROW)
    return rewrite(column, sql) and bool(list(sealing.seal()))


@pytest.mark.parametrize("column", [column for column in FORMATS[1].columns if column != "id"])
def test_a_row_in_another_spelling_is_sealed_as_it_is(column: str) -> None:
    for _, sql in (case for case in CASES if case[0] == column):
        with transaction.atomic():
            if sealed_in(column, sql):
                assert problems() == [], sql
                AuditEvent._base_manager.update(**{column: ROW[column]})
                assert [kind for kind, _, _ in problems()] == ["altered"], sql
            transaction.set_rollback(True)


WRITTEN = (
    b'[42,1717243200123450,"used","",7,"T\\u00e4st","0123abcd","GET","/\\u00fcnicode/\\ud83d\\ude00/%s","\\u00c9",200,1000,'
    b'"20010db8000000000000000000000007","\\u00e4","r\\u00c4-1","\\u00d6",1,"\\u00dcb",'
    b'"{\\"name\\": [\\"A\\", \\"B\\"], \\"note\\": [\\"\\\\u00e9\\", null], \\"rate\\": [\\"\\", \\"5/min\\"]}",7]'
)


def read() -> list[list[Any]]:
    return list(Reader(FORMATS[1].columns, "default").rows(AuditEvent.objects.order_by("pk")))


def is_foreign(values: list[Any]) -> bool:
    return any(isinstance(value, list) for value in values)


class TestCanonical:
    """What this app and Django write is written down alike on every database, and survives a move to another."""

    def test_a_row_is_written_in_one_way(self) -> None:
        AuditEvent(pk=42, **ROW).save(force_insert=True)
        (values,) = read()
        assert FORMATS[1].encoded(values) == WRITTEN

    def test_a_row_that_was_loaded_again_is_the_same(self) -> None:
        rare = ("::ffff:192.0.2.1", "::1.2.3.4", "fe80::1")
        write(ROW, STEP, *({**ROW, "address": address, "ticket": None} for address in rare))
        list(sealing.seal())
        # Not JSON, in which Django leaves out microseconds.
        before, dump = read(), serializers.serialize("xml", AuditEvent.objects.order_by("pk"))
        AuditEvent.objects.all().delete()
        for event in serializers.deserialize("xml", dump):
            event.save()
        assert read() == before
        assert problems() == []

    def test_so_is_one_that_was_dumped_elsewhere_where_keys_are_in_another_order(self) -> None:
        write(ROW)
        before = read()
        elsewhere = {"rate": CHANGES["rate"], "name": CHANGES["name"], "note": CHANGES["note"]}
        AuditEvent._base_manager.update(changes=elsewhere)
        assert read() == before

    @pytest.mark.parametrize("address", ["2001:db8::7", "192.0.2.1", "::1", "fe80::1", None])
    def test_what_requests_write_is(self, address: str | None) -> None:
        for at in (AT, AT.replace(microsecond=0)):
            statements.insert(row(at=at, address=address))
            AuditEvent.objects.bulk_create([AuditEvent(**{**ROW, "at": at, "address": address, "ticket": None})])
        assert [values for values in read() if is_foreign(values)] == []
        assert len(read()) == 4

    def test_numbers_in_changes_are(self) -> None:
        numbers = {"a": [1, 1.5, -0.25, 10**30, True, None], "b": {"z": 1, "y": {"b": 2, "a": 1}}}
        write({**STEP, "changes": numbers})
        (values,) = read()
        assert values[-2] == json.dumps({"a": numbers["a"], "b": {"y": {"a": 1, "b": 2}, "z": 1}})


@pytest.mark.skipif(connection.vendor != "sqlite", reason="Only SQLite takes it.")
def test_text_that_is_not_unicode_is_sealed_like_any_other() -> None:
    ids = write(FULL, FULL, FULL)
    execute("UPDATE keys_auditevent SET path = CAST(x'41ff' AS TEXT) WHERE id = %s", [ids[1]])
    list(sealing.seal(most_rows=2))
    assert problems() == []
    for other in ("x'41ff'", "CAST(x'41fe' AS TEXT)", "'A\ufffd'", "'41ff'"):
        execute(f"UPDATE keys_auditevent SET path = {other} WHERE id = %s", [ids[1]])
        assert problems() == [("altered", 1, ids[1])]
