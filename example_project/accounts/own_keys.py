"""The API with which users look after their own keys, for the users that this service knows."""

from rest_framework.authentication import SessionAuthentication
from rest_framework.routers import SimpleRouter

from example_project.accounts.authentication import CookieOrBearerJWTAuthentication
from keys.authentication import APIKeyAuthentication
from keys.selfservice.api import APIKeyViewSet


class OwnKeysView(APIKeyViewSet):
    """Keys of your own, and of your department.

    For users, by the JSON Web Token or by the session of the log-in page. A key is known here, so that it is told that
    it may not make keys.
    """

    authentication_classes = [CookieOrBearerJWTAuthentication, SessionAuthentication, APIKeyAuthentication]


app_name = "own_keys"
router = SimpleRouter()
router.register("", OwnKeysView, basename="key")
urlpatterns = router.urls
