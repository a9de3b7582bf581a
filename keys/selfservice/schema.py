"""OpenAPI of the API, by drf-spectacular: what each operation takes and answers, and that no key opens it."""

from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.extensions import OpenApiSerializerFieldExtension, OpenApiViewExtension
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_view
from rest_framework.authentication import BaseAuthentication

from ..authentication import KeyringAuthentication
from ..models.api_key import STATES
from .serializers import OwnKeySerializer, OwnKeyUsageSerializer, OwnKeyWithSecretSerializer


class OwnKeys(OpenApiViewExtension):  # type: ignore[no-untyped-call]
    """Describes the view set, and a project's own subclass of it."""

    target_class = "keys.selfservice.api.APIKeyViewSet"
    match_subclasses = True

    def view_replacement(self) -> Any:
        of_all = {
            401: OpenApiResponse(description=_("Nobody is logged in.")),
            403: OpenApiResponse(description=_("Nobody is logged in, or a key calls.")),
        }
        of_one = {**of_all, 404: OpenApiResponse(description=_("You have no such key."))}
        refused = {400: OpenApiResponse(description=_("What is wrong, by field."))}
        stale = {409: OpenApiResponse(description=_("Others have changed the key meanwhile."))}
        rotated = {409: OpenApiResponse(description=_("The key has been rotated already, or changed meanwhile."))}
        unknown = {503: OpenApiResponse(description=_("It cannot be told now whether the owner may have keys."))}
        answers: dict[str, dict[int, Any]] = {
            "list": {200: OwnKeySerializer(many=True), **of_all},
            "create": {201: OwnKeyWithSecretSerializer, **refused, **of_all, **unknown},
            "retrieve": {200: OwnKeySerializer, **of_one},
            "partial_update": {200: OwnKeySerializer, **refused, **of_one, **stale},
            "rotate": {201: OwnKeyWithSecretSerializer, **refused, **of_one, **rotated, **unknown},
            "deactivate": {200: OwnKeySerializer, **refused, **of_one, **stale},
            "usage": {200: OwnKeyUsageSerializer, **of_one},
        }
        described = {name: extend_schema(responses=responses) for name, responses in answers.items()}
        return extend_schema_view(**described)(type(self.target.__name__, (_ForUsers, self.target), {}))


class State(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """Gives the states of a key a schema with a name of its own, whatever else in the project has a `state`."""

    target_class = "keys.selfservice.serializers.StateField"

    def get_name(self) -> str:
        return "APIKeyState"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        return {"type": "string", "enum": [*STATES]}


class _ForUsers:
    def get_authenticators(self) -> list[BaseAuthentication]:
        made: list[BaseAuthentication] = super().get_authenticators()  # type: ignore[misc]
        return [one for one in made if not isinstance(one, KeyringAuthentication)]
