from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission

from peppered.models import ServiceToken, digest_of


class ServiceTokenAuthentication(BaseAuthentication):
    def authenticate(self, request):
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "token":
            return None
        row = ServiceToken.objects.filter(digest=digest_of(token), revoked_at=None).first()
        if row is None:
            raise AuthenticationFailed("Invalid token.")
        return AnonymousUser(), row

    def authenticate_header(self, request):
        return "Token"


class HasServiceToken(BasePermission):
    def has_permission(self, request, view):
        return isinstance(request.auth, ServiceToken)
