"""The API with which users look after keys of their own, for Django REST framework."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, ClassVar

from django.apps import apps
from django.core.exceptions import ValidationError
from django.http.response import HttpResponseBase
from django.utils.cache import patch_cache_control
from django.utils.translation import gettext_lazy as _
from rest_framework import exceptions, serializers, status
from rest_framework.decorators import action
from rest_framework.fields import get_error_detail
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.viewsets import GenericViewSet

from .. import actor
from ..models import APIKey, RotationError
from ..models.owners import OwnerUnknownError
from ..models.querysets import APIKeyQuerySet
from ..models.stale import StaleKeyError
from ..permissions import IsUser
from . import rules, usage
from .serializers import (
    NewOwnKeySerializer,
    OwnKeyChangesSerializer,
    OwnKeyEndSerializer,
    OwnKeyRotationSerializer,
    OwnKeySerializer,
    OwnKeyUsageSerializer,
    OwnKeyWithSecretSerializer,
)

USAGE_DAYS = 30


class Conflict(exceptions.APIException):
    """The key is no longer as the caller knows it."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = _("This key has been changed meanwhile. Read it again.")
    default_code = "conflict"


class Unavailable(exceptions.APIException):
    """It cannot be told now whether the owner may have keys."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = _("Keys cannot be made right now.")
    default_code = "unavailable"


# A project subclasses it to name other authenticators, throttles or another pagination than its usual ones.
class APIKeyViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[APIKey]):
    """Keys of your own."""

    queryset = APIKey.objects.none()
    # Not the project's usual ones, which may ask for a key. A subclass's are asked beside `IsUser`.
    permission_classes: Any = ()
    serializer_class = OwnKeySerializer
    serializer_classes: ClassVar[Mapping[str, type[serializers.BaseSerializer[Any]]]] = {
        "create": NewOwnKeySerializer,
        "partial_update": OwnKeyChangesSerializer,
        "rotate": OwnKeyRotationSerializer,
        "deactivate": OwnKeyEndSerializer,
        "usage": OwnKeyUsageSerializer,
    }

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer the request. What it changes is recorded as done by its user, also without `APIKeyMiddleware`."""
        with actor.answering(request):
            return super().dispatch(request, *args, **kwargs)

    def finalize_response(self, *args: Any, **kwargs: Any) -> Response:
        """Keep what the user's keys are, and each secret, out of caches."""
        response: Response = super().finalize_response(*args, **kwargs)
        patch_cache_control(response, private=True, no_store=True)
        return response

    def get_permissions(self) -> list[BasePermission]:
        """Ask for a user before all that a project asks for: a key may make no keys, whatever it may do."""
        return [IsUser(), *super().get_permissions()]  # type: ignore[list-item]

    def get_queryset(self) -> APIKeyQuerySet[Any]:
        """Return the keys that the user may look after, each with its last use, the newest first."""
        if getattr(self, "swagger_fake_view", False):
            return APIKey.objects.none()
        return rules.keys_of(self.request.user).with_last_used().order_by("-created_at", "-pk")

    def get_serializer_class(self) -> type[serializers.BaseSerializer[Any]]:
        return self.serializer_classes.get(self.action or "", super().get_serializer_class())

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Make a key. The answer is the only one with its secret."""
        values = self._values(request)
        with _answered():
            key = rules.create(request.user, **values)
        return self._shown(key, OwnKeyWithSecretSerializer, status.HTTP_201_CREATED)

    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Change the name, the scopes, the networks or the end of a key."""
        key, values = self.get_object(), self._values(request)
        with _answered():
            rules.change(key, **values)
        return self._shown(key)

    @action(detail=True, methods=["post"])
    def rotate(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Make a key in place of this one, which is accepted for `grace` more seconds.

        The answer is the only one with the secret of the new key. A key is rotated once.
        """
        key, values = self.get_object(), self._values(request)
        grace = timedelta(seconds=values["grace"]) if "grace" in values else None
        with _answered():
            successor = rules.rotate(key, grace)
        return self._shown(successor, OwnKeyWithSecretSerializer, status.HTTP_201_CREATED)

    @action(detail=True, methods=["post"])
    def deactivate(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """End a key at once. Nothing makes it valid again."""
        key, values = self.get_object(), self._values(request)
        with _answered():
            rules.deactivate(key, **values)
        return self._shown(key)

    @action(detail=True, methods=["get"], pagination_class=None, filter_backends=())
    def usage(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Say who used a key in the last 30 days: from which address, with which program, on which endpoint."""
        found = usage.clients(self.get_object(), USAGE_DAYS)
        return Response({**self.get_serializer(found).data})

    def _values(self, request: Request) -> dict[str, Any]:
        """Return what the request says. Raises a 400, also for JSON in which the parser loses its way."""
        try:
            given = request.data
        except RecursionError:
            raise exceptions.ParseError from None
        serializer = self.get_serializer(data=given, **({"partial": True} if self.action == "partial_update" else {}))
        serializer.is_valid(raise_exception=True)
        return dict(serializer.validated_data)

    def _shown(
        self,
        key: APIKey,
        serializer: type[OwnKeySerializer] = OwnKeySerializer,
        code: int = status.HTTP_200_OK,
    ) -> Response:
        # A plain dictionary: from another one the browsable API would take the key, for a form.
        return Response({**serializer(key, context=self.get_serializer_context()).data}, code)


@contextmanager
def _answered() -> Iterator[None]:
    """Turn what the rules raise into answers."""
    try:
        yield
    except rules.NotRotatableError as error:
        raise Conflict(error.messages[0]) from None
    except ValidationError as error:
        raise exceptions.ValidationError(_by_field(error)) from None
    except RotationError as error:
        raise exceptions.ValidationError({api_settings.NON_FIELD_ERRORS_KEY: [str(error)]}) from None
    except StaleKeyError:
        raise Conflict from None
    except OwnerUnknownError:
        raise Unavailable from None


def _by_field(error: ValidationError) -> dict[str, Any]:
    detail: Any = get_error_detail(error)
    of_all = str(api_settings.NON_FIELD_ERRORS_KEY)
    if not isinstance(detail, dict):
        return {of_all: detail}
    # Nothing of what users write is called so.
    for name, said in (("owner_ref", "owner"), ("__all__", of_all)):
        if name in detail:
            detail[said] = detail.pop(name)
    return detail


if apps.is_installed("drf_spectacular"):
    from . import schema  # noqa: F401  registers its extension
