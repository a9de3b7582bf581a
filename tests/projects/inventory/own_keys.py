from rest_framework.authentication import SessionAuthentication
from rest_framework.routers import SimpleRouter
from rest_framework.throttling import UserRateThrottle

from inventory.views import ActingKeyAuthentication
from keys.selfservice.api import APIKeyViewSet


class SixtyAMinute(UserRateThrottle):
    rate = "60/min"


class OwnKeys(APIKeyViewSet):
    authentication_classes = [SessionAuthentication, ActingKeyAuthentication]
    throttle_classes = [SixtyAMinute]


router = SimpleRouter()
router.register("api/keys", OwnKeys, basename="own-key")  # then path("", include(router.urls))
