from rest_framework.response import Response
from rest_framework.views import APIView

from hashed.permissions import HasPersonalKey


class Events(APIView):
    authentication_classes = []
    permission_classes = [HasPersonalKey]

    def get(self, request):
        return Response({"events": []})
