"""The addresses of the API: `path("api/v1/keys/", include("keys.selfservice.urls"))`."""

from rest_framework.routers import SimpleRouter

from .api import APIKeyViewSet

app_name = "keys_api"

router = SimpleRouter()
router.register("", APIKeyViewSet, basename="key")

urlpatterns = router.urls
