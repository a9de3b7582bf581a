"""What the API takes and what it says of a key."""

from datetime import datetime, tzinfo
from typing import Any

from django.conf import settings
from rest_framework import serializers

from .. import moments
from ..models import APIKey
from .rules import MOST_NETWORKS, MOST_OF_A_REASON

# Of any text that is a scope, a network or an owner.
_LONGEST = 255
_MOST_SCOPES = 1000
_LONGEST_GRACE = 10**9  # seconds: what is longer is a mistake


class MomentField(serializers.DateTimeField):
    """The framework's field. Where `USE_TZ` is off, it reads a moment of another zone in that of the project.

    The framework would take it in UTC for local time.
    """

    def enforce_timezone(self, value: datetime, field_timezone: tzinfo | None = None) -> datetime:
        if settings.USE_TZ:
            return super().enforce_timezone(value)
        try:
            return moments.kept(value)
        except OverflowError:
            self.fail("overflow", timezone=settings.TIME_ZONE)

    def to_representation(self, value: Any) -> Any:
        """Return it in the project's form; in UTC where it has none, as the end of the calendar has in the east."""
        try:
            return super().to_representation(value)
        except serializers.ValidationError:
            return moments.instant(value).isoformat()


class _Texts(serializers.ListField):
    child = serializers.CharField(max_length=_LONGEST)

    def get_attribute(self, instance: Any) -> Any:
        """Return the list; an empty one for what is none, which counts as none."""
        held = super().get_attribute(instance)
        return held if isinstance(held, list | tuple) else []


class _SecretField(serializers.CharField):
    def to_representation(self, value: Any) -> Any:
        """Return it as it is: where a renderer fails, reports of the error show it masked."""
        return value


class StateField(serializers.CharField):
    """The state of a key. It has no choices: drf-spectacular would name those as a project's own `state`, and warn."""


class OwnKeySerializer(serializers.ModelSerializer[APIKey]):
    """A key of the user's, without its secret."""

    state = StateField(read_only=True)
    owner = serializers.CharField(source="owner_ref", read_only=True)
    scopes = _Texts(read_only=True)
    allowed_ips = _Texts(read_only=True)
    created_at = MomentField(read_only=True)
    expires_at = MomentField(read_only=True, allow_null=True)
    last_used_at = MomentField(source="last_used", read_only=True, allow_null=True)
    replaced_by = serializers.IntegerField(source="replaced_by_id", read_only=True, allow_null=True)

    class Meta:
        model = APIKey
        fields = (
            "id", "name", "prefix", "state", "owner", "scopes", "allowed_ips", "rate", "created_at", "expires_at",
            "last_used_at", "replaced_by",
        )  # fmt: skip
        read_only_fields = fields


class OwnKeyWithSecretSerializer(OwnKeySerializer):
    """A new key with its secret, which is shown this once."""

    key = _SecretField(read_only=True)

    class Meta:
        model = APIKey
        fields = (*OwnKeySerializer.Meta.fields, "key")
        read_only_fields = fields


class OwnKeyChangesSerializer(serializers.Serializer[APIKey]):
    """What a user may change of a key."""

    name = serializers.CharField(max_length=100, required=False)
    scopes = _Texts(max_length=_MOST_SCOPES, required=False)
    allowed_ips = _Texts(max_length=MOST_NETWORKS, required=False)
    expires_at = MomentField(allow_null=True, required=False)


class NewOwnKeySerializer(OwnKeyChangesSerializer):
    """What a user says of a new key. Without `owner` it is of the only one, or the user's.

    Without an end it ends as late as it may.
    """

    name = serializers.CharField(max_length=100)
    owner = serializers.CharField(max_length=_LONGEST, required=False)


class OwnKeyRotationSerializer(serializers.Serializer[Any]):
    """For how many seconds the old key is accepted beside the new one."""

    grace = serializers.IntegerField(min_value=0, max_value=_LONGEST_GRACE, required=False)


class OwnKeyEndSerializer(serializers.Serializer[Any]):
    """Why a key is ended, in words for the log."""

    reason = serializers.CharField(max_length=MOST_OF_A_REASON, required=False, allow_blank=True)


class OwnKeyClientSerializer(serializers.Serializer[Any]):
    """One address and program that called one endpoint with a key."""

    address = serializers.CharField(allow_null=True)
    user_agent = serializers.CharField()
    endpoint = serializers.CharField()
    uses = serializers.IntegerField()
    refusals = serializers.IntegerField()
    last_at = MomentField()


class OwnKeyUsageSerializer(serializers.Serializer[Any]):
    """Who used a key lately, the latest first, and since when this is all of them."""

    since = MomentField()
    clients = OwnKeyClientSerializer(many=True, source="found")
    has_more = serializers.BooleanField()
