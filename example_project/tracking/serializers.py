import json
import re
from typing import Any

from rest_framework import serializers

from example_project.tracking.batches import MAX_CLICKS, ClickSerializer
from example_project.tracking.models import Link, Record

MAX_RECORD_BYTES = 16_384

# An odd number of backslashes before the "u" makes it an escape; an even one is text that speaks of backslashes.
NUL_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class LinkSerializer(serializers.ModelSerializer[Link]):
    class Meta:
        model = Link
        fields = ["slug", "url", "created_at"]
        # Whether the slug is free is left to the insert: two requests that ask first could both be told that it is.
        extra_kwargs: dict[str, dict[str, Any]] = {"slug": {"validators": []}}

    def create(self, validated_data: dict[str, Any]) -> Link:
        link, created = Link.objects.get_or_create(slug=validated_data["slug"], defaults={"url": validated_data["url"]})
        if not created:
            raise serializers.ValidationError({"slug": ["A link with this slug already exists."]})
        return link


class RecordSerializer(serializers.ModelSerializer[Record]):
    class Meta:
        model = Record
        fields = ["id", "name", "data", "created_at"]

    def validate_data(self, data: Any) -> Any:
        """Refuse what cannot be stored as JSON (by PostgreSQL: a NUL, half of a surrogate pair, an infinity)."""
        try:
            text = json.dumps(data, allow_nan=False, ensure_ascii=False)
            size = len(text.encode())
        except ValueError:
            raise serializers.ValidationError("Numbers must be finite, and strings valid Unicode.") from None
        if size > MAX_RECORD_BYTES:
            raise serializers.ValidationError(f"Ensure this is no more than {MAX_RECORD_BYTES} bytes of JSON.")
        if NUL_ESCAPE.search(text):
            raise serializers.ValidationError("Null characters are not allowed.")
        return data


class IngestTestSerializer(serializers.Serializer[Any]):
    """The answer to a third party that tries its key."""

    success = serializers.BooleanField()
    message = serializers.CharField()
    authenticated = serializers.BooleanField()


class BatchSerializer(serializers.Serializer[Any]):
    """The body of a batch, for the documentation: `read_batch` reads it, and names each bad row by its index."""

    clicks = serializers.ListField(child=ClickSerializer(), max_length=MAX_CLICKS)


class StoredBatchSerializer(serializers.Serializer[Any]):
    """The answer to a batch."""

    success = serializers.BooleanField()
    stored = serializers.IntegerField()
    duplicates = serializers.IntegerField()


class ClickCountSerializer(serializers.Serializer[Any]):
    """How many clicks a link had on a day."""

    link = serializers.CharField(source="slug")
    day = serializers.DateField()
    clicks = serializers.IntegerField()
