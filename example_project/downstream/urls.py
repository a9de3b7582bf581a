"""The addresses of the calling service."""

from django.urls import path

from example_project.downstream import views

urlpatterns = [
    path("greetings/", views.greetings, name="greetings"),
    path("voices/", views.voices, name="voices"),
    path("me/", views.me, name="me"),
]
