"""Each column of the log is in everything that lists the columns: a new one is missed until it is placed."""

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection, models
from django.test import RequestFactory

from keys.admin import export
from keys.audit import outcomes, seal_formats, sql, statements
from keys.audit.entries import decode, encode
from keys.audit.outcomes import new_ticket
from keys.models import AuditEvent
from keys.models.audit_event import OUTCOME
from keys.models.fields import MomentField, SortedJSONField

AT = datetime(2026, 3, 1, 12, 30, 59, 123_456, tzinfo=UTC)
FIELDS: list[Any] = list(AuditEvent._meta.concrete_fields)
COLUMNS = [field.attname for field in FIELDS]
# Two values that a column of each type may hold; neither is what the column holds where nothing is known.
VALUES: dict[Any, Callable[[Any], tuple[Any, Any]]] = {
    models.BigAutoField: lambda field: (7, 8),
    models.BigIntegerField: lambda field: (2**40, 2**40 + 1),
    models.CharField: lambda field: (f"é{field.attname}"[: field.max_length], "\\"),
    MomentField: lambda field: (AT, AT.replace(microsecond=123_457)),
    models.ForeignKey: lambda field: (11, 12),
    models.GenericIPAddressField: lambda field: ("2001:db8::7", "192.0.2.1"),
    SortedJSONField: lambda field: ({"rate": ["", "5/min"]}, {"rate": ["", "6/min"]}),
    models.PositiveIntegerField: lambda field: (70_000, 70_001),
    models.PositiveSmallIntegerField: lambda field: (418, 419),
}


def filled() -> dict[str, Any]:
    """Return a row with a value in every column."""
    return {field.attname: VALUES[type(field)](field)[0] for field in FIELDS}


def of_requests() -> list[dict[str, Any]]:
    """Return a known key's refusal and a counted one of strangers: between them they have a value in every column.

    What a life-cycle event has alone is blank.
    """
    row = {name: value for name, value in filled().items() if name not in {"id", "changes"}}
    row |= {"event": "refused", "reason": "scope", "actor": "", "detail": "", "ticket": new_ticket(AT)}
    stranger = {"reason": "unknown", "api_key_id": None, "key_name": "", "key_prefix": "", "owner": ""}
    return [{**row, "count": 1}, {**row, **stranger, "ticket": new_ticket(AT)}]


def test_no_value_is_that_of_a_blank_column() -> None:
    assert [field.attname for field in FIELDS if filled()[field.attname] in ("", None, field.get_default())] == []


def test_each_column_is_sealed() -> None:
    forgotten = set(COLUMNS) - set(seal_formats.newest().columns)
    assert not forgotten, (
        f"No seal covers {', '.join(sorted(forgotten))}. In keys/audit/seal_formats.py add to FORMATS one with the next"
        " number: the columns of the newest, and the new ones. Leave the others as they are: old seals are verified by"
        " them."
    )


def test_each_column_of_a_request_goes_through_a_stream() -> None:
    for row in of_requests():
        assert decode({b"row": encode(row).encode()}) == row


def test_each_column_of_a_request_is_shipped() -> None:
    assert sorted(sql.SHIPPED_NAMES) == sorted(of_requests()[0])


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "postgresql", reason="Streams are shipped into PostgreSQL.")
def test_what_is_shipped_is_in_the_table() -> None:
    statements.ship(of_requests())
    rows = AuditEvent.objects.order_by("-key_name").values(*of_requests()[0])
    assert [{**each, "ticket": 0} for each in rows] == [{**each, "ticket": 0} for each in of_requests()]


@pytest.mark.django_db
@pytest.mark.parametrize("has_owners", [True, False])
def test_each_column_is_exported_but_that_of_owners_where_keys_have_none(settings: Any, has_owners: bool) -> None:
    settings.KEYS = {"OWNERS": ["auth.User"] if has_owners else []}
    AuditEvent.objects.create(**filled())
    exported = {
        form: b"".join(export.response(RequestFactory().get("/"), AuditEvent.objects.all(), form)).decode()
        for form in ("csv", "jsonl")
    }
    written = {**filled(), "at": AT.isoformat()}
    if not has_owners:
        del written["owner"]
    assert json.loads(exported["jsonl"]) == written
    (line,) = csv.DictReader(exported["csv"].splitlines())
    texts = {name: json.dumps(value) if isinstance(value, dict) else str(value) for name, value in written.items()}
    assert line == texts


def test_an_outcome_begins_with_what_is_added_to_a_use_and_ends_with_what_names_it() -> None:
    assert outcomes.Outcome._fields[: len(OUTCOME)] == OUTCOME
    assert outcomes.Outcome._fields[len(OUTCOME) :] == outcomes.RowHandle._fields
