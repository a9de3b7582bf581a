"""Views that save an order for users and for services, as projects write them."""

from typing import Any

from django.apps import apps
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.utils.decorators import method_decorator
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.generics import CreateAPIView

from keys.authentication import APIKeyAuthentication
from keys.decorators import api_key_required
from keys.permissions import HasScope, IsUser
from tests.worlds.tracked.models import Order
from tests.worlds.urls import urlpatterns as ordinary


class OrderSerializer(serializers.ModelSerializer[Order]):
    class Meta:
        model = Order
        fields = ["name"]


class Create(CreateAPIView[Order]):
    authentication_classes = [SessionAuthentication, APIKeyAuthentication]
    permission_classes = [IsUser | HasScope("orders:write")]
    serializer_class = OrderSerializer


class CreateOwned(Create):
    """Takes every caller for a user."""

    def perform_create(self, serializer: Any) -> None:
        serializer.save(owner=self.request.user)


def save(request: HttpRequest) -> JsonResponse:
    Order.objects.create(name=request.POST["name"])
    return JsonResponse({}, status=201)


class ActingAuthentication(APIKeyAuthentication):
    acts_as_owner = True


def as_owners() -> tuple[Any, ...]:
    """Return the addresses of the same views where a key acts as its owner."""
    acting: Any = [SessionAuthentication, ActingAuthentication]
    return (
        path("create/", Create.as_view(authentication_classes=acting)),
        path("create-owned/", CreateOwned.as_view(authentication_classes=acting)),
        path("create-plain/", api_key_required("orders:write", guard=ActingAuthentication.guard)(save)),
    )


def in_revisions() -> list[Any]:
    """Return views that make a revision by django-reversion's mixin, and by its decorator on the handler."""
    from reversion.views import RevisionMixin, create_revision

    class CreateInRevision(RevisionMixin, Create):  # type: ignore[misc]
        pass

    class CreateInAHandlersRevision(Create):
        @method_decorator(create_revision())
        def post(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            return super().post(request, *args, **kwargs)

    return [
        path("create-in-revision/", CreateInRevision.as_view()),
        path("create-in-a-handlers-revision/", CreateInAHandlersRevision.as_view()),
    ]


urlpatterns = [
    *ordinary,
    *(in_revisions() if apps.is_installed("reversion") else []),
    path("create/", Create.as_view()),
    path("create-owned/", CreateOwned.as_view()),
    path("create-plain/", api_key_required("orders:write")(save)),
]
