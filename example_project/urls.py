"""The addresses of the example."""

from django.contrib import admin
from django.contrib.auth.views import LoginView
from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from example_project.accounts.views import LogoutView
from example_project.views import WhoAmIView
from keys.gateway import ForwardAuthView, IntrospectionView

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(), name="docs"),
    path("account/login/", LoginView.as_view(template_name="accounts/login.html"), name="login"),
    path("account/logout/", LogoutView.as_view(), name="logout"),
    path("account/keys/", include("keys.selfservice.pages")),
    path("gateway/", ForwardAuthView.as_view(), name="gateway"),
    # For Envoy, which appends the path that it asks about.
    re_path(r"^envoy/(?P<path>(?s:.*))\Z", ForwardAuthView.as_view(scopes=["orders:read"]), name="envoy"),
    path("api/v1/keys/whoami/", WhoAmIView.as_view(), name="whoami"),
    path("api/v1/keys/introspect/", IntrospectionView.as_view(), name="introspect"),
    # Behind it, as a key might else be looked for by the id `whoami`.
    path("api/v1/keys/", include("example_project.accounts.own_keys")),
    path("api/v1/", include("example_project.accounts.urls")),
    path("api/", include("example_project.tracking.urls")),
    path("_internal/", include("example_project.jobs.urls")),
]
