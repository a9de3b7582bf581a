from django.contrib.auth.views import LoginView
from django.urls import include, path
from rest_framework.routers import DefaultRouter

from inventory import own_keys, plain, views

router = DefaultRouter()
router.register("devices", views.Devices)

urlpatterns = [
    path("login/", LoginView.as_view(template_name="login.html"), name="login"),
    path("account/keys/", include("keys.selfservice.pages")),
    path("", include(own_keys.router.urls)),
    path("api/", include(router.urls)),
    path("names/", plain.device_names, name="names"),
]
