from rest_framework.permissions import BasePermission

from hashed.models import PersonalKey, digest_of


class HasPersonalKey(BasePermission):
    def has_permission(self, request, view):
        key = request.headers.get("X-API-Token", "")
        row = PersonalKey.objects.filter(secure_value=digest_of(key), is_active=True).first()
        return row is not None and "events:read" in row.scopes
