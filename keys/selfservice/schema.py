"""OpenAPI of the API, by drf-spectacular: what each operation takes and answers, and that no key opens it."""

from typing import Any

from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_view
from rest_framework.authentication import BaseAuthentication

from ..authentication import KeyringAuthentication
from .serializers import OwnKeySerializer, OwnKeyUsageSerializer, OwnKeyWithSecretSerializer


class OwnKeys(OpenApiViewExtension):  # type: ignore[no-untyped-call]
    """Describes the view set, and a project's own subclass of it."""

    target_class = "keys.selfservice.api.APIKeyViewSet"
    match_subclasses = True

    def view_replacement(self) -> Any:
        described = {
            "create": extend_schema(responses={201: OwnKeyWithSecretSerializer, 400: _because("What is wrong.")}),
            "partial_update": extend_schema(
                responses={200: OwnKeySerializer, 400: _because("What is wrong."), 409: _because("Changed meanwhile.")},
            ),
            "rotate": extend_schema(
                responses={
                    201: OwnKeyWithSecretSerializer,
                    400: _because("What is wrong."),
                    409: _because("It was rotated already."),
                },
            ),
            "deactivate": extend_schema(responses={200: OwnKeySerializer, 400: _because("What is wrong.")}),
            "usage": extend_schema(responses=OwnKeyUsageSerializer),
        }
        return extend_schema_view(**described)(type(self.target.__name__, (_ForUsers, self.target), {}))


class _ForUsers:
    def get_authenticators(self) -> list[BaseAuthentication]:
        made: list[BaseAuthentication] = super().get_authenticators()  # type: ignore[misc]
        return [one for one in made if not isinstance(one, KeyringAuthentication)]


def _because(words: str) -> OpenApiResponse:
    return OpenApiResponse(description=words)
