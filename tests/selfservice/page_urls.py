"""The example's addresses, with the pages on which people look after their keys."""

from django.urls import include, path

urlpatterns = [
    path("account/keys/", include("keys.selfservice.pages")),
    path("", include("example_project.urls")),
]
