"""The pages on which people look after keys of their own: `include("keys.selfservice.pages")` in a URLconf."""

from django.urls import path

from . import views

app_name = "keys_pages"

urlpatterns = [
    path("", views.list_keys, name="list"),
    path("new/", views.create_key, name="create"),
    path("<int:pk>/", views.show_key, name="key"),
    path("<int:pk>/change/", views.change_key, name="change"),
    path("<int:pk>/rotate/", views.rotate_key, name="rotate"),
    path("<int:pk>/deactivate/", views.deactivate_key, name="deactivate"),
]
