"""Batches of clicks: taken as a whole or not at all, and each click stored once."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator, slug_re
from django.db import transaction
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from example_project.tracking.models import Click, Link

MAX_CLICKS = 1000

# The analysis counts by day in some time zone, so each click needs a day's room at either end of the calendar.
EARLIEST = datetime.min.replace(tzinfo=UTC) + timedelta(days=1)
LATEST = datetime.max.replace(tzinfo=UTC) - timedelta(days=1)


class ClickIdField(serializers.UUIDField):
    """A UUID written as a string. `UUIDField` would take the number 7 for one."""

    def to_internal_value(self, data: Any) -> uuid.UUID:
        if not isinstance(data, str):
            self.fail("invalid", value=data)
        return super().to_internal_value(data)


@extend_schema_field(OpenApiTypes.STR)
class LinkField(serializers.Field[Link, Any, Any, Any]):
    """A link by its slug, out of `context["links"]`."""

    default_error_messages = {"unknown": "Unknown link."}

    def to_internal_value(self, data: Any) -> Link:
        link: Link | None = self.context["links"].get(data) if isinstance(data, str) else None
        if link is None:
            self.fail("unknown")
        return link


class ClickSerializer(serializers.Serializer[Any]):
    """One row of a batch. A time without an offset is taken to be in `TIME_ZONE`."""

    click_id = ClickIdField()
    link = LinkField()
    clicked_at = serializers.DateTimeField(validators=[MinValueValidator(EARLIEST), MaxValueValidator(LATEST)])


def read_batch(body: Any) -> list[Click]:
    """The clicks in a request's body `{"clicks": [{"click_id", "link", "clicked_at"}, ...]}`, not yet stored.

    Raises `ValidationError`. Its detail maps the index of each bad row to what is wrong with it, or `"clicks"` to what
    is wrong with the whole. The links of all rows cost one look-up.
    """
    rows = body.get("clicks") if isinstance(body, Mapping) else None
    if not isinstance(rows, list):
        raise serializers.ValidationError({"clicks": ["Expected a list of clicks."]})
    if len(rows) > MAX_CLICKS:
        raise serializers.ValidationError({"clicks": [f"Ensure this field has no more than {MAX_CLICKS} elements."]})
    serializer = ClickSerializer(context={"links": links_of(rows)})
    clicks, errors = [], {}
    for index, row in enumerate(rows):
        try:
            clicks.append(Click(**serializer.run_validation(row)))
        except serializers.ValidationError as error:
            errors[str(index)] = error.detail
    if errors:
        raise serializers.ValidationError(errors)
    return clicks


def links_of(rows: list[Any]) -> dict[str, Link]:
    """The links that the rows name, by slug."""
    names = {row["link"] for row in rows if isinstance(row, Mapping) and isinstance(row.get("link"), str)}
    # What cannot be a slug is not asked for: PostgreSQL would not take a NUL even in the question.
    return {link.slug: link for link in Link.objects.filter(slug__in=[name for name in names if slug_re.match(name)])}


def store_batch(clicks: list[Click]) -> int:
    """Store the clicks of one request, all or none; return how many of them had not been stored before."""
    batch = uuid.uuid4()
    first_by_id: dict[uuid.UUID, Click] = {}
    for click in clicks:
        click.batch = batch
        first_by_id.setdefault(click.click_id, click)
    # Always in the same order: two requests that bring the same clicks could otherwise each wait for the other.
    ids = sorted(first_by_id)
    with transaction.atomic():
        Click.objects.bulk_create([first_by_id[click_id] for click_id in ids], ignore_conflicts=True)
        # Only the database knows which rows it left out, as another request may be storing them at the same time.
        return Click.objects.filter(pk__in=ids, batch=batch).count()
