"""The example's addresses, with the pages on which people look after their keys: twice, once within another app's."""

from django.urls import URLPattern, URLResolver, include, path

nested: list[URLPattern | URLResolver] = [path("keys/", include("keys.selfservice.pages"))]

urlpatterns = [
    path("account/keys/", include("keys.selfservice.pages")),
    path("within/", include((nested, "within"))),
    path("", include("tests.support.example_urls")),
]
