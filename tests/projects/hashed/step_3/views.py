from rest_framework.response import Response
from rest_framework.views import APIView

from hashed.auth import PersonalKeyAuthentication
from keys.permissions import HasScope


class Events(APIView):
    authentication_classes = [PersonalKeyAuthentication]
    permission_classes = [HasScope("events:read")]

    def get(self, request):
        return Response({"events": []})
