"""The addresses of the cluster's nodes."""

from django.urls import path

from tests.cluster import views

urlpatterns = [
    path("use/", views.Use.as_view(), name="use"),
    path("ready/", views.ready),
    path("make/", views.make),
    path("end/", views.end),
]
