from rest_framework.response import Response
from rest_framework.views import APIView

from peppered.auth import HasServiceToken, ServiceTokenAuthentication


class Readings(APIView):
    authentication_classes = [ServiceTokenAuthentication]
    permission_classes = [HasServiceToken]

    def get(self, request):
        return Response({"readings": [], "for": request.auth.name})
