from django.contrib import admin
from django.contrib.auth.views import LoginView
from django.urls import include, path

from uptime import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("login/", LoginView.as_view(template_name="login.html"), name="login"),
    path("account/keys/", include("keys.selfservice.pages")),
    path("api/v1/keys/", include("keys.selfservice.urls")),
    path("pings/", views.Pings.as_view(), name="pings"),
    path("projects/<int:pk>/", views.ProjectDetail.as_view(), name="project"),
]
