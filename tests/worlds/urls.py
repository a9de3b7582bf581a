"""The addresses of a world: guarded views of each kind, and the admin where it is installed."""

from django.apps import apps
from django.urls import URLPattern, URLResolver, path

from keys.gateway import IntrospectionView
from tests.worlds import views

GUARDED: list[URLPattern | URLResolver] = [
    path("orders/", views.Orders.as_view(), name="orders"),
    path("plain-orders/", views.plain_orders, name="plain-orders"),
    path("introspect/", IntrospectionView.as_view(), name="introspect"),
]
urlpatterns = [*GUARDED]

if apps.is_installed("django.contrib.admin"):
    from django.contrib import admin

    urlpatterns.append(path("admin/", admin.site.urls))
