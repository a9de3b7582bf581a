"""The audit log as a file: CSV for a spreadsheet, JSON Lines for a program."""

import csv
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from io import StringIO
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, StreamingHttpResponse

from .. import moments
from ..models import AuditEvent, owners
from .log_list import older_than

OF_OWNERS = "owner"
CHUNK = 2000
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # a spreadsheet reads a text that starts with one as a formula


def columns() -> tuple[str, ...]:
    """Return the columns of the file: all of the log, without that of owners where keys have none."""
    names = (field.attname for field in AuditEvent._meta.concrete_fields)
    return tuple(name for name in names if name != OF_OWNERS or owners.are_on())


def response(request: HttpRequest, events: QuerySet[AuditEvent], form: str) -> StreamingHttpResponse:
    """Return the events, the latest first, as a streamed file. Raises Http404 unless `form` is `csv` or `jsonl`."""
    writers: dict[str, tuple[str, Callable[[QuerySet[AuditEvent]], Iterator[str]]]] = {
        "csv": ("text/csv; charset=utf-8", _as_csv),
        "jsonl": ("application/jsonl; charset=utf-8", _as_json_lines),
    }
    if form not in writers:
        raise Http404
    content_type, write = writers[form]
    parts = write(events)
    name = f"audit-log-{moments.today():%Y-%m-%d}.{form}"
    return StreamingHttpResponse(
        _asynchronously(parts) if isinstance(request, ASGIRequest) else parts,
        headers={"Content-Type": content_type, "Content-Disposition": f'attachment; filename="{name}"'},
    )


def _chunks(events: QuerySet[AuditEvent], columns: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows in chunks, each found by the index: one cursor over all would need a temporary file."""
    place = None
    while chunk := list((events if place is None else older_than(events, place)).values(*columns)[:CHUNK]):
        yield chunk
        place = (chunk[-1]["at"], chunk[-1]["id"])


def _as_json_lines(events: QuerySet[AuditEvent]) -> Iterator[str]:
    for chunk in _chunks(events, columns()):
        yield "".join(json.dumps(row, default=moments.written, ensure_ascii=False) + "\n" for row in chunk)


def _as_csv(events: QuerySet[AuditEvent]) -> Iterator[str]:
    heading = columns()
    yield ",".join(heading) + "\r\n"
    for chunk in _chunks(events, heading):
        text = StringIO()
        csv.writer(text).writerows([_cell(value) for value in row.values()] for row in chunk)
        yield text.getvalue()


def _cell(value: Any) -> Any:
    """Return the value for a cell: a text that would be a formula gets an apostrophe before it (CWE-1236)."""
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return moments.written(value) if isinstance(value, datetime) else value


async def _asynchronously(parts: Iterator[str]) -> AsyncIterator[str]:
    """Yield the parts under ASGI, where Django would otherwise collect all of them before it sends the first."""
    following: Any = sync_to_async(next)
    while (part := await following(parts, None)) is not None:
        yield part
