"""The API as a project includes it, and as one that subclasses its view set."""

from typing import Any

from django.urls import include, path
from drf_spectacular.views import SpectacularJSONAPIView
from rest_framework import permissions
from rest_framework.authentication import SessionAuthentication
from rest_framework.pagination import PageNumberPagination
from rest_framework.parsers import FormParser, JSONParser, MultiPartParser
from rest_framework.renderers import BrowsableAPIRenderer, JSONRenderer
from rest_framework.routers import SimpleRouter
from rest_framework.versioning import NamespaceVersioning, URLPathVersioning

from keys.authentication import APIKeyAuthentication
from keys.models import APIKey
from keys.selfservice.api import APIKeyViewSet


class KeyOfAnOwner(APIKeyAuthentication):
    acts_as_owner = True


class Keys(APIKeyViewSet):
    authentication_classes: Any = (SessionAuthentication, KeyOfAnOwner)
    parser_classes = (JSONParser, FormParser, MultiPartParser)
    renderer_classes: Any = (JSONRenderer, BrowsableAPIRenderer)


class OpenKeys(Keys):
    """As open as a project can make it."""

    authentication_classes = (APIKeyAuthentication, SessionAuthentication)
    permission_classes = (permissions.AllowAny,)


class KeysForStaff(Keys):
    permission_classes = (permissions.IsAdminUser,)


class Pages(PageNumberPagination):
    page_size = 2


class PagedKeys(Keys):
    pagination_class = Pages


class KeysInThePath(PagedKeys):
    versioning_class = URLPathVersioning


class VersionedKeys(Keys):
    versioning_class = NamespaceVersioning


class ChangedMeanwhile(Keys):
    """Others change each key after it has been read."""

    def get_object(self) -> Any:
        key = super().get_object()
        others = APIKey.objects.get(pk=key.pk)
        others.name = "theirs"
        others.save()
        if self.action != "partial_update":
            APIKey.objects.filter(pk=key.pk).update(owner_ref="auth.user:0")
        return key


class FailingRenderer(JSONRenderer):
    def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
        raise RuntimeError("this cannot be shown")


class UnshownKeys(Keys):
    renderer_classes = (FailingRenderer,)


def routes(prefix: str, view: type[APIKeyViewSet]) -> SimpleRouter:
    router = SimpleRouter()
    router.register("", view, basename=prefix)
    return router


urlpatterns = [
    path("included/", include("keys.selfservice.urls")),
    path("mine/", include(routes("mine", Keys).urls)),
    path("open/", include(routes("open", OpenKeys).urls)),
    path("staff/", include(routes("staff", KeysForStaff).urls)),
    path("changed/", include(routes("changed", ChangedMeanwhile).urls)),
    path("unshown/", include(routes("unshown", UnshownKeys).urls)),
    path("paged/", include(routes("paged", PagedKeys).urls)),
    path("versions/<str:version>/", include(routes("in-the-path", KeysInThePath).urls)),
    path("v1/", include((routes("versioned", VersionedKeys).urls, "v1"))),
    path("schema/", SpectacularJSONAPIView.as_view()),
    path("", include("example_project.urls")),
]
