"""Guarded views, as a project would write them."""

from django.http import HttpRequest, JsonResponse
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from keys.authentication import APIKeyAuthentication
from keys.decorators import api_key_required
from keys.permissions import HasScope
from keys.throttling import APIKeyRateThrottle


class Orders(APIView):
    """Guarded by Django REST framework."""

    authentication_classes = [APIKeyAuthentication]
    permission_classes = [HasScope("orders:read")]
    throttle_classes = [APIKeyRateThrottle]

    def get(self, request: Request) -> Response:
        return Response({"for": request.auth.name})  # type: ignore[union-attr]


@api_key_required("orders:read")
def plain_orders(request: HttpRequest) -> JsonResponse:
    """Guarded by the decorator."""
    return JsonResponse({"for": request.auth.name})  # type: ignore[attr-defined]
