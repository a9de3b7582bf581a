"""The addresses of a world, and those of grappelli."""

from django.urls import include, path

from tests.worlds.urls import urlpatterns as ordinary

urlpatterns = [path("grappelli/", include("grappelli.urls")), *ordinary]
