from rest_framework.response import Response
from rest_framework.views import APIView

from keys.permissions import HasScope
from peppered.auth import ServiceKeyAuthentication


class Readings(APIView):
    authentication_classes = [ServiceKeyAuthentication]
    permission_classes = [HasScope("readings:read")]

    def get(self, request):
        return Response({"readings": [], "for": request.auth.name})
