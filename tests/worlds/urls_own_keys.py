"""The addresses of a world, and the API for users' own keys in the namespace of a version."""

from django.urls import include, path

from tests.worlds import urls

urlpatterns = [
    path("v1/keys/", include(("keys.selfservice.urls", "v1"))),
    *urls.urlpatterns,
]
