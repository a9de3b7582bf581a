"""The ordinary addresses, and those of django-debug-toolbar."""

from django.urls import include, path

from tests.worlds import urls

urlpatterns = [*urls.urlpatterns, path("__debug__/", include("debug_toolbar.urls"))]
