"""Views that belong to no app of the example."""

from typing import Any, NoReturn, cast

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from keys.authentication import APIKeyAuthentication
from keys.models import APIKey
from keys.permissions import HasAPIKey


class WhoAmISerializer(serializers.ModelSerializer[APIKey]):
    scopes = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = APIKey
        fields = ["name", "prefix", "scopes", "expires_at"]


class WhoAmIView(APIView):
    """`GET` tells a caller which key it is using: name, prefix, scopes and expiry (ISO 8601, null for never)."""

    authentication_classes = [APIKeyAuthentication]
    permission_classes = [HasAPIKey]

    @extend_schema(responses=WhoAmISerializer)
    def get(self, request: Request) -> Response:
        return Response(WhoAmISerializer(cast(APIKey, request.auth)).data)


class UnknownPathView(APIView):
    """What closes a guarded prefix: whoever passes its guard is told 404, whatever the method.

    Without it an address that does not exist would answer 404 to everybody, and so tell those outside which ones do.
    Give the guard to `as_view(authentication_classes=..., permission_classes=...)`.
    """

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> NoReturn:
        super().initial(request, *args, **kwargs)
        raise NotFound
